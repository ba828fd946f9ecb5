"""The pages as HTML. They need no script, but for the form that submits itself, which has a button for want of one."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from .http import HttpResponse, html_response
from .steps import AskConsent, AskSignIn, AskUserCode, AuthorizationAnswer, Told

if TYPE_CHECKING:
    from .steps import Step

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;background:#f2f2f2;color:#1b1b1b;margin:0}
main{background:#fff;max-width:26em;margin:4em auto;padding:2em;box-shadow:0 2px 6px #0003}
h1{font-size:1.4em;margin-top:0}
label{display:block;margin:1em 0}
input{display:block;width:100%;box-sizing:border-box;font:inherit;padding:.4em}
button{font:inherit;padding:.4em 1.4em;margin:1em .5em 0 0}
#message{color:#a80000}
"""


def page(step: Step, *headers: tuple[str, str]) -> HttpResponse:
    """Return what the browser is shown, or where it is sent."""
    match step:
        case AuthorizationAnswer():
            return _answer(step, headers)
        case AskUserCode():
            return html_response(200, _user_code(step), *headers)
        case AskSignIn():
            return html_response(200, _sign_in(step), *headers)
        case AskConsent():
            return html_response(200, _consent(step), *headers)
        case Told():
            text = _document(step.title, f'<p id="told">{escape(step.text)}</p>')
            return html_response(400 if step.error else 200, text, *headers, error=step.error)


def _answer(answer: AuthorizationAnswer, headers: tuple[tuple[str, str], ...]) -> HttpResponse:
    error = answer.params.get("error", "")
    if answer.method == "GET":
        where = (("Location", answer.url), ("Cache-Control", "no-store"), *headers)
        return HttpResponse(303, where, b"", error)
    # OAuth 2.0 Form Post Response Mode, section 2
    fields = "".join(_hidden(name, value) for name, value in answer.params.items())
    button = '<noscript><p>Your browser runs no scripts.</p><button id="continue">Continue</button></noscript>'
    form = f'<form method="post" action="{escape(answer.redirect_uri)}">{fields}{button}</form>'
    text = _document("Back to the application", form, ' onload="document.forms[0].submit()"')
    return html_response(200, text, *headers, error=error)


def _user_code(step: AskUserCode) -> str:
    code = (
        '<label>Code <input id="user-code" name="user-code" '
        f'value="{escape(step.user_code)}" autocomplete="off" required autofocus></label>'
    )
    return _document(
        "Enter the code that your device shows",
        f'{_message(step.message)}<form method="post" action="deviceauth">{code}{_button("next", "Next")}</form>',
    )


def _sign_in(step: AskSignIn) -> str:
    accounts = "".join(
        f'<button id="account-{number}" name="account" value="{escape(name)}">{escape(name)}</button>'
        for number, name in enumerate(step.accounts)
    )
    if accounts:
        accounts = _form(step.visit, f"<p>Choose an account, or use another:</p>{accounts}")
    fields = (
        '<label>User name <input id="username" name="username" '
        f'value="{escape(step.username)}" autocomplete="username" autofocus></label>'
        '<label>Password, if you have one <input id="password" name="password" type="password" '
        'autocomplete="current-password"></label>'
    )
    buttons = _button("sign-in", "Sign in") + _button("cancel", "Cancel")
    return _document("Sign in", f"{_message(step.message)}{accounts}{_form(step.visit, fields + buttons)}")


def _consent(step: AskConsent) -> str:
    scopes = "".join(f"<li>{escape(scope)}</li>" for scope in step.scopes)
    if step.for_device:
        title = "Sign in on your device?"
        buttons = _button("approve", "Approve") + _button("decline", "Decline")
    else:
        title = "Permissions requested"
        buttons = _button("accept", "Accept") + _button("cancel", "Cancel")
    text = (
        f'<p>You are <b id="user">{escape(step.username)}</b>. '
        f'The application <b id="application">{escape(step.client_id)}</b> asks for:</p><ul id="scopes">{scopes}</ul>'
    )
    return _document(title, text + _form(step.visit, buttons))


def _document(title: str, content: str, attributes: str = "") -> str:
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style></head><body{attributes}><main><h1>{escape(title)}</h1>{content}</main></body></html>"
    )


def _form(visit: str, content: str) -> str:
    return f'<form method="post" action="/common/login">{_hidden("visit", visit)}{content}</form>'


def _hidden(name: str, value: str) -> str:
    return f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'


def _button(name: str, text: str) -> str:
    return f'<button type="submit" id="{name}" name="{name}" value="1">{text}</button>'


def _message(text: str) -> str:
    return f'<p id="message" role="alert">{escape(text)}</p>' if text else ""
