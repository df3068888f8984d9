"""Several processes that serve one app: workers, and a supervisor that starts them, replaces them and ends them.

    run ── supervise          binds the sockets, never imports the app; signals arrive here
             │  roster        decides who starts, who goes, and when: no process, no clock
             │  child         one worker, as the supervisor has it
             │  spare         one that waits for a place, if that is asked for
             │  reloading     what a developer saves
             │  wakeups       the signals
             │  reports       what the log says
           channel            a socket pair for each worker: down its job and the listening sockets, up what becomes of it
             │
           worker             a fresh interpreter: imports the app, serves it as `run` does, and says that its loop turns
             ├─ wear          when it has done enough
             └─ orphans       and that it ends with its supervisor

A worker is a new interpreter rather than a fork: it sees the code as it is on the disk, and no thread or loop of anybody's is copied.
The listening sockets are the same in all of them, so that a connection that one doesn't accept any more is another's.
"""
