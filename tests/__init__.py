"""What holds on every framework is in ``everywhere``; what belongs to one framework, in the folder of its name.

A folder is collected where its name is open: a framework's in a run on that framework; ``cuda`` with ``--device cuda``;
``triton``, ``nvrtc``, ``interop`` and ``examples`` with the option of that name. All the others always are:
``arithmetic`` and ``package``, as the package has them; ``devices``; ``docs``, its pages; ``promises``, the page of
that name; ``fuzz``, which searches for wrong results; ``capabilities``, each function with each feature of each
framework. ``cases`` holds what several of them go through or compare with; ``benchmarks``, ``mutants`` and
``uncovered`` are programs.
"""
