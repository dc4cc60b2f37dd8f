"""Calls of the command that are forks of processes which have imported what the command needs.

Importing torch and transformers takes longer than all that a stage of a small checkpoint does. So the workflow starts a
worker, by the same ``convkit`` that its jobs find, and a call goes through :mod:`.call` in its place::

    stage.sh > call.py > the worker > the process of this environment > a fork

- :mod:`.worker` has a process started for each environment of the workflow that serves calls, with the variables that
  the call has: what is read as an interpreter or a library starts is what a call by itself would have read.
- Such a process (:mod:`.process`) imports, once, the modules that an earlier call of any command imported; before the
  first, what takes longest in that environment of the workflow. It runs nothing of a call: no state passes from one to
  the next.
- A call that the worker doesn't take, or that inherits something else than the worker did, is a plain process.
- A fork dies with its caller, and all of them with the process that started the worker, however it ends.
"""
