"""Messages that are made, not collected: something to tell spam from, on every machine."""

from __future__ import annotations

import numpy as np

from tinygrad_rnn.data.generated import pick
from tinygrad_rnn.data.messages import Message
from tinygrad_rnn.nn import check_size

SPAM_SHARE = 747 / 5574
"""The share of spam in the SMS Spam Collection."""

# What fills the places in the sentences below.
WORDS = {
    "name": "anna ben carla david eva finn greta hugo ida jonas karim lena mia noah olga paul",
    "prize": "camera phone car holiday voucher bonus ticket laptop ring watch console bike",
    "amount": "50 80 100 150 200 250 400 500 750 900 1000 2000",
    "number": "80608 87121 62468 83355 86688 69988 85023 88600 81010 84128",
    "time": "tonight tomorrow later today monday tuesday friday sunday soon",
    "place": "home school work town church college airport station gym library",
    "event": "match party lesson film dinner exam meeting concert game lecture",
    "thing": "milk bread keys notes tea rice book shoes cake photos",
}

# Pairs of the same words in another order: the first is spam, the second is not.
ORDERED = (
    ("we send you the {prize} when you text us {number}",
     "you send us the {prize} when we text you {number}"),
    ("do not wait, claim your {prize}", "wait, do not claim your {prize}"),
    ("not {name} but you won the {prize}", "not you but {name} won the {prize}"),
    ("you pay us {amount} first, and then we deliver the {prize}",
     "we pay {amount} first, and then you deliver us the {prize}"),
    ("call {number} before you miss the {prize}, not after",
     "not before you miss the {prize}, call {number} after"),
)  # fmt: skip

# What single words give away.
SPAM = (
    "urgent! your account was chosen for {amount} pounds cash",
    "win a {prize} every week, text win to {number}",
    "free entry in our {prize} draw, text go to {number}",
    "congratulations {name}, claim {amount} pounds now",
)

# What is no spam: plain, or with the words of spam in it.
HAM = (
    "i am at the {place} now, see you {time}",
    "what time is the {event} {time}?",
    "can you bring the {thing} from {place}?",
    "{name} is late for the {event}, sorry",
    "did you find my {thing}? i left them at the {place}",
    "will {name} come to the {event} {time}?",
    "are you free {time}? the {event} was cancelled",
    "i won {amount} pounds at the {event}, dinner is on me",
    "text {name} your number, please",
    "call me about the {prize} when you are at {place}",
    "{name} lost his {prize}, is it at the {place}?",
)

OPENINGS = ("", "", "hi {name}, ", "hey, ", "hello, ", "dear {name}, ", "ok, ", "listen, ")
CLOSINGS = ("", "", " thanks", " reply {time}", " bye", " xx", " greetings from {name}", " hurry")


def generated_messages(count: int = 5574, seed: int = 0) -> list[Message]:
    """Messages like those of the SMS Spam Collection, as many of them ``spam``, made by rule.

    In three of five spam messages no word gives it away: the same words occur in another order in
    as many that are ``ham`` ("do not wait, claim your prize", "wait, do not claim your prize").
    So what looks at words alone cannot tell these apart.

    Parameters
    ----------
    count : the number of messages; some occur more than once.
    seed : decides which ones.

    >>> generated_messages(9, seed=11)[8].text
    'hi anna, not anna but you won the car thanks'

    Raises
    ------
    ValueError
        where count is not a positive integer.
    """
    check_size("generated_messages", count=count)
    random = np.random.default_rng(seed)
    choices = {place: words.split() for place, words in WORDS.items()}

    messages: list[Message] = []
    for _ in range(count):
        kind = random.random() / SPAM_SHARE
        if kind < 1.2:  # ordered: half of them spam
            label = "spam" if kind < 0.6 else "ham"
            core = pick(random, tuple(pair[label == "ham"] for pair in ORDERED))
        elif kind < 1.6:
            label, core = "spam", pick(random, SPAM)
        else:
            label, core = "ham", pick(random, HAM)
        words = {place: pick(random, options) for place, options in choices.items()}
        text = f"{pick(random, OPENINGS)}{core}{pick(random, CLOSINGS)}".format(**words)
        messages.append(Message(label, text))
    return messages
