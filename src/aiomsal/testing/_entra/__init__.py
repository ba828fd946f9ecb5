"""FakeEntra's parts: one brain, several faces.

The brain is synchronous and thread-safe and knows no sockets: `brain` takes a request, `routes` names it, `faults` and
`gate` decide what is done to it, and one module per area answers it (`discovery`, `grants`, `device`, ...) from
the `state`. The faces carry bytes: `session` within the process, `server` over HTTPS, `process` from another process.

What a person does is steps: `authorize` and `deviceauth` say what somebody signs in for, `visits` which question comes
next, and `steps` what questions and answers there are. `pages` shows them as HTML to whoever comes to the `portal`, and
`person` answers them without a browser.
"""
