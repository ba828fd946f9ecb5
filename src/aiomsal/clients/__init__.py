"""Who we are towards the authority: the clients that a `TokenManager` acquires its tokens by.

With `aiomsal.msal` the only code that knows MSAL and requests. Both are imported in a worker thread, by the first
call that needs them, and never by importing these modules.
"""
