"""What can be said to the television: thirty commands in English and German, and the letters they are spelt with."""

from __future__ import annotations

LANGUAGES = ("en", "de")
LETTERS = "_ abcdefghijklmnopqrstuvwxyzäöü"  # the first stands for CTC's blank, and pads
LONGEST = 24  # letters of a phrase

_NUMBERS = {
    "en": ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"],
    "de": ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf"],
}
COMMANDS: dict[str, tuple[str, str]] = {
    **{f"channel {n + 1}": (f"channel {_NUMBERS['en'][n]}", f"kanal {_NUMBERS['de'][n]}") for n in range(12)},
    "turn on": ("turn on", "einschalten"),
    "turn off": ("turn off", "ausschalten"),
    "louder": ("louder", "lauter"),
    "quieter": ("quieter", "leiser"),
    "full volume": ("full volume", "volle lautstärke"),
    "low volume": ("low volume", "zimmerlautstärke"),
    "next channel": ("next channel", "nächster kanal"),
    "previous channel": ("previous channel", "voriger kanal"),
    "go back": ("go back", "zurück"),
    "news": ("the news", "die nachrichten"),
    "weather": ("weather forecast", "wetterbericht"),
    "sports": ("sports", "sportschau"),
    "music": ("music", "musik"),
    "movies": ("movies", "spielfilme"),
    "cartoons": ("cartoons", "zeichentrick"),
    "documentary": ("documentary", "dokumentation"),
    "quiz": ("quiz show", "ratespiel"),
    "theatre": ("theatre", "theater"),
}

PHRASES: dict[str, str] = {phrase: command for command, phrases in COMMANDS.items() for phrase in phrases}


def commands() -> dict[str, list[str]]:
    """All phrases of each language."""
    return {language: [phrases[place] for phrases in COMMANDS.values()] for place, language in enumerate(LANGUAGES)}


def spelt(text: str) -> str:
    """`text` as it is spelt here: small letters of LETTERS, single spaces."""
    return " ".join("".join(letter for letter in text.lower() if letter in LETTERS[1:]).split())


def numbers(text: str) -> list[int]:
    """The places of the letters of `text` in LETTERS."""
    return [LETTERS.index(letter) for letter in spelt(text)]
