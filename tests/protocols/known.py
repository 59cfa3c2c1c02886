"""Where hearth differs from a case and nobody can mend it here: the case, and why. One that holds again is a failure."""

KNOWN = {
    "h2 3.4 settings do not come first": "h2 0.4 takes any frame first; nothing comes of it",
    "h2 8.1 pseudo-headers among trailers": "h2 0.4 drops them in place of refusing the request; the application does not see them",
}
