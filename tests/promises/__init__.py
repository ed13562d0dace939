"""What the page of promises states as a figure or a value, and the commands that print and write those."""
