"""Setting up a checkout: environments from lock files, the main job, the tests, the locks themselves.

Runs on a bare Python 3.11: nothing here imports more than the standard library.
"""
