"""Whether a device computes right and keeps its speed: what `devbench stress` does.

`arithmetic` (tier 1), `endurance` and `patterns` (tier 2) and `load` (tier 3) run in a worker, started
as `child`; `examine` holds that worker and judges with `rates`; `session` makes a stored run of it.

Run for real on CPUs. What is done on accelerators only (narrow formats, links, clocks and heat, several
equal devices) follows the documentation and has not yet run on one.
"""
