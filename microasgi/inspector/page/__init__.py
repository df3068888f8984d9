"""The page: requests looked at in a browser, as they happen, and a client that can leave in every way.

It is served in a thread of its own, with an event loop of its own: so it answers when the app's loop doesn't.

    the app's loop ──Event──► Feed ──► Session ──► Recording      what is remembered, and for how long
                                          │  └───► Visits         "be the client"
                                          ▼
    a browser ◄──/stream── Page ◄── what has changed

    guard.py      who may ask: nobody without the token, and no other site's page
    files.py      the page's own files, each with the nonce of its visit
    routes.py     what can be asked
    feed.py       events from thread to thread, bounded
    recording.py  the requests that are remembered, bounded
    pages.py      what each open page is still to be told, bounded
    visits.py     requests that are made here
    beats.py      whether the app's loop turns; standing.py  where a thread stands
    sheet.py      a request as the page shows it
    session.py    all of it together

It knows no server: `microasgi/command/inspection.py` serves it, and puts the tap in place.
"""
