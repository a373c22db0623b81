"""What people ask about in the demo: everyday tasks, each with one true step and one true example.

The styles turn a topic into answers, the judge checks answers against it. Nothing here is random.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """One task and the two facts that a useful answer gives.

    Topic("cook rice", "rice", "rinse the grains until the water is clear", "one cup of rice needs two cups of water")
    """

    task: str
    """Reads well after "How do I"."""
    thing: str
    """A noun for the same, without an article."""
    step: str
    """An order, in lower case and without a full stop."""
    example: str
    """A clause that reads well after "For example,"."""


TOPICS: tuple[Topic, ...] = (
    Topic("grow tomatoes", "tomatoes", "water the roots every morning", "one full cup at seven is plenty"),
    Topic("bake bread", "bread", "let the dough rest for an hour", "leave the bowl beside a warm oven"),
    Topic("learn to swim", "swimming", "float on your back in shallow water", "breathe out slowly and count to ten"),
    Topic("sleep better", "sleep", "turn off every screen before bed", "read ten pages of a calm book"),
    Topic("save money", "saving", "put a fixed sum aside on payday", "drop two coins in a jar each Friday"),
    Topic("learn Spanish", "Spanish", "practise five new words a day", "name the things in your kitchen aloud"),
    Topic("fix a flat tyre", "tyres", "hold the tube under water to find the hole", "mark the spot where bubbles rise"),
    Topic("clean the windows", "windows", "wipe the glass with warm water and vinegar", "dry it with an old newspaper"),
    Topic("train a puppy", "puppies", "reward good behaviour at once", "give a small treat when it sits"),
    Topic("write a letter", "letters", "say the most important thing first", "open with one line of thanks"),
    Topic("start running", "running", "walk and run in turns", "run for one minute and walk for two"),
    Topic("cook rice", "rice", "rinse the grains until the water is clear", "one cup of rice needs two cups of water"),
    Topic("make coffee", "coffee", "grind the beans just before you brew", "use two spoons for each mug"),
    Topic("paint a wall", "paint", "cover the edges with tape first", "roll from the ceiling down to the floor"),
    Topic("plan a picnic", "picnics", "choose food that needs no plates", "bring cold pasta in a closed jar"),
    Topic("play the guitar", "guitars", "learn two easy chords first", "change from G to D twenty times"),
    Topic("draw a face", "faces", "begin with a light oval", "place the eyes halfway down"),
    Topic("calm a nervous cat", "cats", "offer a quiet place to hide", "put a blanket in an open box"),
    Topic("pack a suitcase", "suitcases", "roll your clothes instead of folding them", "hide the socks in your shoes"),
    Topic("read more", "books", "keep a book where you can see it", "leave a novel on your pillow"),
    Topic("pass an exam", "exams", "solve old questions against the clock", "do three of them each evening"),
    Topic("give a speech", "speeches", "practise the first sentence aloud", "say it five times to a mirror"),
    Topic("repair a chair", "chairs", "glue the loose leg and clamp it", "tie a belt around it overnight"),
    Topic("plant roses", "roses", "dig a hole twice as wide as the root", "mix a bucket of compost into it"),
    Topic("fly a kite", "kites", "stand with your back to the wind", "let the string out a metre at a time"),
    Topic("bake an apple pie", "pies", "keep the butter very cold", "cut it into cubes from the freezer"),
    Topic("wash a jumper", "wool", "use cold water and mild soap", "dry it flat on a towel"),
    Topic("make new friends", "friends", "join a group that meets each week", "sing in a choir on Tuesdays"),
    Topic("remember names", "names", "repeat the name when you hear it", "say hello Anna and shake hands"),
    Topic("relax a sore back", "backs", "stretch gently twice a day", "lie down and pull your knees in"),
    Topic("take good photos", "photos", "put the sun behind you", "wait for the light after breakfast"),
    Topic("build a birdhouse", "birds", "cut the door no wider than a coin", "hang the box three metres high"),
    Topic("brew tea", "tea", "warm the pot before you pour", "let green tea stand for two minutes"),
    Topic("make soup", "soup", "fry the onions slowly in oil", "stir one onion for ten minutes"),
    Topic("ride a bicycle", "bicycles", "look ahead and not at the wheel", "pick a tree and roll towards it"),
    Topic("sew on a button", "buttons", "use a double thread", "pass the needle through each hole four times"),
    Topic("keep a diary", "diaries", "write at the same time each day", "note three lines after dinner"),
    Topic("grow basil", "basil", "pinch off the top leaves often", "take the upper pair every Sunday"),
    Topic("watch the stars", "stars", "give your eyes time in the dark", "sit outside for twenty minutes"),
    Topic("tidy a messy desk", "desks", "empty one drawer at a time", "sort the pens into three cups"),
    Topic("catch a fish", "fishing", "keep still and wait at dawn", "sit by the reeds until six"),
    Topic("skate on ice", "skating", "bend your knees and push sideways", "glide on one foot and then the other"),
    Topic("knit a scarf", "scarves", "use thick wool and large needles", "thirty stitches make a good width"),
    Topic("play chess", "chess", "move your pieces to the centre early", "open with the pawn before the king"),
    Topic("make jam", "jam", "boil the fruit with half as much sugar", "test a drop on a cold plate"),
    Topic("light a campfire", "campfires", "stack dry twigs under the logs", "build a small tent of birch bark"),
    Topic("wake up early", "mornings", "go to bed at a fixed hour", "set the alarm across the room"),
    Topic("wrap a present", "presents", "cut the paper a little too long", "leave three fingers on every side"),
)


def topic_of(prompt: str) -> Topic | None:
    """The topic whose task a prompt names, None where it names none."""
    return next((topic for topic in TOPICS if topic.task in prompt), None)
