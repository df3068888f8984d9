"""The same app in every framework.

Each module is one framework's, named after it, and serves these routes:

    GET  /                              the run's token: hello-world, and the proof that this is the server we started
    GET  /once                          text, "once", after waiting for a tenth of a millisecond
    GET  /json                          JSON, work.MESSAGE
    GET  /users/{user}/items/{item}     text, "USER ITEM"; item is an int, where the framework converts
    POST /read                          reads the whole body; answers with its size, as text
    POST /receive                       the same, but reads piece by piece where the framework can
    GET  /stream/{megabytes}            a body of that many times work.PIECES pieces, streamed
    any  /wait?token=T&seconds=S        never looks at a body; waits S seconds (10), noted under T; answers "waited"
    GET  /ticks?token=T                 streams "tick" every 10 ms without an end, noted under T
    GET  /slot?token=T                  works for 100 ms in one of ten slots, noted under T; answers "done"
    GET  /query?token=T                 the same in PostgreSQL: a connection of a pool of ten, pg_sleep; answers "done"
    GET  /notes                         what the handlers have noted, as JSON; see work.notes

Three of them have WebSockets, too, in modules of their own; T and S are as above:

    /echo                               says what it hears
    /room                               what one in there says, all hear
    /sleeps?token=T&seconds=S           touches nothing for so long
    /receives?token=T                   waits for what the client says
    /floods?token=T&seconds=S           says 25 MB at once
    /pushes?token=T&seconds=S           says something 20 times a second

Handlers differ only in how their framework wants them written; what they do is in `work`.
"""
