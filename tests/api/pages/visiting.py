"""A visitor's window: logged in by the session cookie, with everything that the browser complained of."""

from typing import Any

from playwright.sync_api import Browser, Locator, Page, TimeoutError

PATIENCE_MS = 20_000


class Visit:
    """One browser context with one page."""

    def __init__(self, browser: Browser, url: str, secret: str | None, width: int, scheme: str) -> None:
        self.url = url
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light"
        )
        self._context.set_default_timeout(PATIENCE_MS)
        if secret is not None:
            answer = self._context.request.post(f"{url}/v1/session", data={"key": secret})
            assert answer.status == 204, answer.text()
        self.page: Page = self._context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def go(self, path: str) -> None:
        self.page.goto("about:blank")
        self.page.goto(
            self.url + path, wait_until="commit"
        )  # a page may go on to the login by itself before it has loaded

    def close(self) -> None:
        self._context.close()

    def find(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def sees(self, words: str, selector: str = "body") -> None:
        """Wait until a part of the page holds these words."""
        holds = "([s, w]) => [...document.querySelectorAll(s)].some((e) => e.innerText.includes(w))"
        try:
            self.page.wait_for_function(holds, arg=[selector, words])
        except TimeoutError as error:
            here = self.page.locator("body").inner_text()
            raise AssertionError(f"no {words!r} in {selector}; the page:\n{here}\n{self.complaints}") from error

    def counts(self, number: int, selector: str) -> None:
        """Wait until so many elements are there."""
        self.page.wait_for_function("([n, s]) => document.querySelectorAll(s).length === n", arg=[number, selector])

    def run(self, script: str) -> Any:
        return self.page.evaluate(script)

    def cookies(self) -> list[dict[str, Any]]:
        return [dict(cookie) for cookie in self._context.cookies()]

    def unharmed(self) -> bool:
        """No script of a text ran, no element was made of one, and the browser had nothing to complain of."""
        made = self.run("document.querySelectorAll('main img, main script, main iframe').length")
        return self.run("window.hit") is None and made == 0 and self.complaints == []
