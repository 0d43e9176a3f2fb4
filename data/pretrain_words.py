"""Word tables for ``data.make_pretrain_text``: one small invented world and some true facts.

Every table is a tuple of named tuples; a row holds words that fit together, so that a
sentence pattern can use any row of its table. In the text of a table, columns are parted
by ``|``, and a line that ends with ``|`` goes on in the next line.

Licence: CC0 1.0 (public domain). All names, places, books and proverbs are invented.
"""

from collections import namedtuple


def table(fields: str, text: str) -> tuple:
    """Read a ``|`` table into a tuple of named tuples with the given field names."""
    row_type = namedtuple("Row", fields)
    rows = []
    for line in text.strip().replace("|\n", "|").split("\n"):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) != len(row_type._fields):
            raise ValueError(f"expected {len(row_type._fields)} columns: {line!r}")
        rows.append(row_type(*cells))
    return tuple(rows)


def lines(text: str) -> tuple[str, ...]:
    """Read a block of text into a tuple with one string per line."""
    return tuple(line.strip() for line in text.strip().split("\n"))


DAYS = lines("""
Monday
Tuesday
Wednesday
Thursday
Friday
Saturday
Sunday
""")

MONTHS = table(
    "name days season",
    """
January | 31 | winter
February | 28 | winter
March | 31 | spring
April | 30 | spring
May | 31 | spring
June | 30 | summer
July | 31 | summer
August | 31 | summer
September | 30 | autumn
October | 31 | autumn
November | 30 | autumn
December | 31 | winter
""",
)

TOWNS = table(
    "name kind lies sight known team colour captain scorer keeper feast month",
    """
Elmwick | market town | on the river Lind | the tall clock tower | honey cakes |
Herons | green | Dan Holt | Amy Rook | Nick Vale | Lantern Fair | October
Pellbridge | town | on the river Osk | the stone bridge | music |
Otters | blue | Carl Penn | Beth Lowe | Ivy Cole | Boat Festival | June
Saltmere | harbour town | at the mouth of the river Lind | the white lighthouse | fresh fish |
Gulls | white | Rob Sands | Zoe Keel | Hugh Cray | Herring Feast | August
Thornhollow | village | beside Glass Lake | the old orchard | apples and honey |
Badgers | red | Tess Hill | Adam Root | Kit Bray | Apple Fair | September
Oakfell | hill village | near the source of the river Lind | the ruined castle | blue pottery |
Foxes | orange | Lars Peak | Ella Birch | Ian Slate | Snow Festival | January
Dunmarrow | wool town | on the edge of Dun Moor | the great wool hall | warm blankets |
Rams | black | Meg Dale | Paul Heath | Jane Ewer | Sheep Fair | May
""",
)

# The hill railway: minutes from Oakfell; a train leaves each end of the line every hour.
STATIONS = (
    ("Oakfell", 0),
    ("Thornhollow", 20),
    ("Elmwick", 35),
    ("Pellbridge", 60),
    ("Saltmere", 90),
)

PEOPLE = table(
    "name first she her him job town place pet petname hobby gift does did",
    """
Clara Finch | Clara | she | her | her | baker | Elmwick | at the bakery in Mill Lane |
cat | Pepper | singing in the choir | a honey cake |
bakes thirty loaves before breakfast | baked thirty loaves before breakfast
Tom Finch | Tom | he | his | him | postman | Elmwick | at the post office |
dog | Biscuit | sorting old stamps | a book of stamps |
carries letters to every street in town | carried letters to every street in town
Ada Moss | Ada | she | her | her | teacher | Elmwick | at the school in Bell Street |
tortoise | Atlas | watching the stars | a box of coloured pencils |
teaches science and history | taught two science lessons
Max Stone | Max | he | his | him | clockmaker | Elmwick | in a workshop under the clock tower |
canary | Tick | playing chess | a small brass clock |
winds the tower clock every week | wound the tower clock
Henry Pike | Henry | he | his | him | gardener | Elmwick | in Elm Park |
rabbit | Clover | painting birds | a bunch of roses |
waters the flower beds at sunrise | watered the flower beds at sunrise
Peter Lark | Peter | he | his | him | librarian | Pellbridge | at the library by the bridge |
cat | Comma | writing short stories | a book of maps |
reads to small children after school | read to small children after school
Nora Quill | Nora | she | her | her | doctor | Pellbridge | at the clinic in Bridge Street |
dog | Poppy | rowing on the Osk | a warm scarf |
visits her patients on an old bicycle | visited six patients on her old bicycle
Lucy Bell | Lucy | she | her | her | music teacher | Pellbridge | at the music school |
canary | Piccolo | walking by the river | a small wooden flute |
leads the town band | led the town band
Samuel Dean | Samuel | he | his | him | train driver | Oakfell | on the hill railway |
dog | Whistle | building model trains | a tin train |
drives the first train of the day | drove the first train of the day
George Flint | George | he | his | him | potter | Oakfell | at the pottery below the castle |
cat | Misty | reading about castles | a blue bowl |
makes cups and bowls from grey clay | made eight bowls from grey clay
Ben Carver | Ben | he | his | him | carpenter | Thornhollow | in a workshop by the lake |
dog | Chip | fishing in Glass Lake | a wooden stool |
makes tables and chairs from oak | made two chairs from oak
Ruth Alder | Ruth | she | her | her | farmer | Thornhollow | in the old orchard |
goat | Daisy | knitting socks | a basket of apples |
looks after two hundred apple trees | looked after her apple trees
Will Thatch | Will | he | his | him | beekeeper | Thornhollow | beside the hives at Hill Farm |
donkey | Oats | telling stories | a jar of honey |
checks his beehives in a white suit | checked his beehives in a white suit
Joe Marsh | Joe | he | his | him | fisherman | Saltmere | on a boat called the Silver Star |
dog | Skipper | playing cards | a basket of fresh fish |
sails out before dawn to catch herring | sailed out before dawn to catch herring
Iris Marsh | Iris | she | her | her | lighthouse keeper | Saltmere | at the white lighthouse |
cat | Storm | reading sea stories | a ship in a bottle |
lights the great lamp at dusk | cleaned the glass of the great lamp
Rosa Bright | Rosa | she | her | her | painter | Saltmere | in a studio above the harbour |
parrot | Ruby | collecting shells | a painting of the harbour |
paints boats in the morning light | painted three boats in the morning light
Grace Wood | Grace | she | her | her | shepherd | Dunmarrow | on Dun Moor |
dog | Fern | dancing | a ball of soft wool |
counts her sheep twice a day | counted her sheep twice
Hannah Frost | Hannah | she | her | her | vet | Dunmarrow | at the animal clinic |
pony | Acorn | running on the moor | a wool blanket |
treats broken wings and sore paws | treated a lamb with a sore foot
Victor Lane | Victor | he | his | him | bus driver | Dunmarrow | on the moor bus |
cat | Ticket | baking pies | a plum pie |
drives the bus between Dunmarrow and Pellbridge | drove the bus to Pellbridge and back
""",
)

CHILDREN = lines("""
Leo
Mia
Anna
Finn
""")

KIN = table(
    "one kin other",
    """
Tom Finch, the postman | brother | Clara Finch, the baker
Leo, who is ten | son | Clara Finch, the baker
Mia, who is eight | daughter | Clara Finch, the baker
Mia, who is eight | sister | Leo, who is ten
Anna, who is nine | daughter | Max Stone, the clockmaker
Finn, who is eleven | son | Henry Pike, the gardener
Iris Marsh, the lighthouse keeper | sister | Joe Marsh, the fisherman
Rosa Bright, the painter | aunt | Finn, who is eleven
Tom Finch, the postman | uncle | Leo, who is ten
Will Thatch, the beekeeper | uncle | Grace Wood, the shepherd
Hannah Frost, the vet | cousin | Nora Quill, the doctor
Peter Lark, the librarian | neighbour | Lucy Bell, the music teacher
Ruth Alder, the farmer | aunt | Ben Carver, the carpenter
""",
)

PET_ACTS = table(
    "pet did then",
    """
cat | slept on the warm windowsill all morning | {p.first} worked very quietly
cat | caught a piece of string under the table | {p.first} laughed until supper
cat | climbed to the top of the cupboard | {p.first} fetched a ladder
cat | hid in an empty basket | {p.first} looked everywhere for an hour
cat | drank a whole bowl of milk | {p.first} washed the bowl
cat | sat on the newspaper | {p.first} read the other half
cat | stole a piece of fish from the kitchen | {p.first} closed the door too late
dog | ran after a red ball in the garden | {p.first} threw it nine times
dog | carried home a very large stick | {p.first} could not open the gate
dog | found a lost glove under the hedge | {p.first} took it back to its owner
dog | barked at a passing cart | {p.first} closed the window
dog | jumped into a puddle | {p.first} fetched an old towel
dog | slept beside the fire all evening | {p.first} put on another log
dog | buried a bone under the rose bush | {p.first} pretended not to see it
dog | waited at the door for an hour | {p.first} came home at six
tortoise | ate a lettuce leaf very slowly | {p.first} had time to read a chapter
tortoise | walked across the whole garden | {p.first} measured the distance
tortoise | went to sleep in a box of straw | {p.first} wrote the date on the lid
tortoise | hid behind the watering can | {p.first} found it after lunch
tortoise | sat in the sun by the wall | {p.first} sat down there too
canary | sang from breakfast until noon | {p.first} whistled along
canary | took a bath in a blue saucer | {p.first} wiped the table
canary | sat on top of the clock | {p.first} was a little late
canary | learned a new tune | {p.first} wrote down the notes
canary | ate seeds from an open hand | {p.first} did not dare to move
rabbit | dug a hole beside the lettuce bed | {p.first} filled it in
rabbit | ate every carrot in the basket | {p.first} bought some more
rabbit | hopped through the flower bed | {p.first} built a small fence
rabbit | slept in a box of hay | {p.first} tiptoed past
rabbit | washed its ears with its paws | {p.first} drew a picture of it
goat | ate the corner of a straw hat | {p.first} had to buy a new one
goat | opened the gate with its nose | {p.first} tied it with a rope
goat | climbed onto the roof of the shed | {p.first} called for a long time
goat | followed the children to the lake | {p.first} led it home
goat | chewed a page of the calendar | {p.first} forgot what day it was
donkey | refused to cross the bridge | {p.first} gave it a carrot
donkey | carried two sacks of flour to the mill | {p.first} brushed its back
donkey | stood in the rain with its eyes closed | {p.first} opened the stable door
donkey | ate the flowers beside the gate | {p.first} planted some more
donkey | greeted the whole street at dawn | {p.first} said sorry to everyone
parrot | said good morning to every visitor | {p.first} taught it to say good night
parrot | copied the sound of the doorbell | {p.first} went to the door twice
parrot | dropped a brush into the blue paint | {p.first} washed its feathers
parrot | cracked a nut with its beak | {p.first} swept the floor
parrot | hung upside down from the lamp | {p.first} painted it that way
pony | trotted to the far end of the field | {p.first} shook a bucket of oats
pony | ate an apple from a pocket | {p.first} pretended to be surprised
pony | splashed through the shallow stream | {p.first} came home wet
pony | rolled in the long grass | {p.first} brushed it for an hour
pony | waited by the fence in the fog | {p.first} brought it a blanket
""",
)

NEWS = table(
    "what more",
    """
the new bridge for walkers was opened | Children were the first to cross it
the old well was repaired | The water is clear and cold again
a storm broke a window in the town hall | Nobody was hurt
a lost umbrella was returned to its owner after ten years | It still works
the library lent its ten thousandth book | It was a story about a whale
the school planted fifty young trees | Each tree carries the name of a pupil
a family of ducks stopped the traffic | Drivers waited with a smile
the town hall was painted yellow | Most people like the new colour
a new bench was placed under the oak tree | It was full by noon
the street lamps were lit for the first time this autumn | They will burn until eleven
the council voted for a new playground | Work will begin in spring
a kitten was rescued from a tall tree | It slept all the way home
the winter market raised two hundred coins for the clinic | The doctor thanked everyone
the fire crew put out a small fire in a barn | All the animals were safe
the museum bought an old map of the coast | It can be seen from next week
the clock in the square stopped for an hour | Several people were late for work
the swimming pool was closed for repairs | It will open again in two weeks
a large pumpkin won first prize at the garden show | It weighed sixty kilograms
the choir sang in the square | More than a hundred people listened
volunteers cleaned the footpath | They filled twelve bags with litter
the first snow of the year fell | Children built a snowman outside the school
the bicycle club repaired thirty old bicycles | They were given to pupils
a rare bird was seen near the pond | Visitors came with cameras
the water pipes were mended | The street is open again
the theatre sold every ticket for its new play | Extra shows are planned
the post office moved to a larger building | It now has three counters
a farmer found an old coin in a field | It will go to the museum
the mayor opened a flower show | Roses filled the whole hall
the night bus began to run | It stops at the market and the square
the bell of the old church was cleaned | It rang for ten minutes
""",
)

WEATHER = table(
    "season morning later advice sky low high",
    """
winter | thick snow covered the roofs | the sun came out | Walk carefully on the ice |
snowy | -6 | 0
winter | frost lay white on the fields | the sky turned grey | Keep the water pipes warm |
frosty | -4 | 3
winter | a cold wind blew from the north | a little snow fell | Wear a thick coat and gloves |
cold and windy | -2 | 4
winter | fog filled the valley | it became a little brighter | Drive slowly |
foggy | 0 | 6
spring | light rain fell on the gardens | a rainbow appeared | Take an umbrella |
rainy | 5 | 11
spring | the air was mild and still | small white clouds drifted by | Open the windows |
mild | 8 | 16
spring | a fresh breeze dried the streets | the sun shone brightly | It is a good day for washing |
bright and breezy | 6 | 14
spring | there were short, heavy showers | the clouds moved away | Wear boots if you go out |
showery | 4 | 12
summer | the sun rose in a clear sky | it grew very warm | Drink plenty of water |
hot and sunny | 17 | 29
summer | it was already warm at seven | a thunderstorm came up | Stay away from tall trees |
stormy | 16 | 27
summer | a soft mist hung over the water | the air became dry and clear | Wear a hat in the sun |
fine and dry | 14 | 24
summer | warm rain woke the gardens | steam rose from the roads | Leave the watering can at home |
warm and wet | 13 | 20
autumn | a strong wind shook the trees | leaves covered the footpaths | Hold on to your hat |
very windy | 7 | 13
autumn | low clouds hid the hills | it rained until evening | Take a warm coat |
dull and wet | 6 | 11
autumn | the grass was heavy with dew | golden light filled the streets |
Enjoy a walk in the woods | calm and clear | 4 | 15
autumn | mist rose from the fields | the sun broke through | Use a lamp on your bicycle |
misty | 3 | 12
""",
)

RECIPES = table(
    "dish need first then last",
    """
tomato soup | six tomatoes, an onion and a little cream | fry the onion until it is soft |
add the tomatoes with some water | cook everything for twenty minutes
pancakes | flour, milk and two eggs | mix the flour with the milk and eggs |
pour a little into a hot pan | turn each pancake once
an apple pie | five apples, sugar and some pastry | line a dish with pastry |
fill it with sliced apples and sugar | bake it for forty minutes
vegetable stew | carrots, potatoes and beans | cut the vegetables into small pieces |
cover them with water and salt | cook them slowly for an hour
a simple omelette | three eggs, butter and cheese | beat the eggs with a fork |
pour them into hot butter | sprinkle the cheese on top
rice pudding | rice, milk and sugar | put the rice and milk in a pot |
stir in the sugar | cook it gently until it is thick
honey cake | flour, eggs and four spoons of honey | beat the eggs with the honey |
stir in the flour | bake it for thirty minutes
potato salad | cold potatoes, an onion and some oil | cut the potatoes into slices |
add the chopped onion | mix everything with oil and vinegar
baked fish | a fresh fish, a lemon and herbs | clean the fish and dry it |
put lemon slices and herbs inside | bake it for twenty-five minutes
mushroom toast | mushrooms, butter and bread | slice the mushrooms |
fry them in butter with a little salt | serve them on hot toast
lemonade | two lemons, sugar and cold water | squeeze the lemons into a jug |
stir in the sugar | fill the jug with cold water
plum jam | ripe plums, sugar and a little lemon juice | remove the stones from the plums |
boil the fruit with sugar and lemon juice | pour it into clean jars
white bread | flour, water, yeast and salt | knead the dough for ten minutes |
let it rise in a warm place | bake it until it sounds hollow
cheese sauce | butter, flour, milk and cheese | melt the butter and stir in the flour |
add the milk slowly | stir in the cheese at the end
oat biscuits | oats, butter and brown sugar | melt the butter with the sugar |
stir in the oats | bake small heaps for fifteen minutes
pumpkin soup | a small pumpkin, an onion and ginger | peel the pumpkin and cut it up |
cook it with the onion and ginger | mash it until it is smooth
fruit salad | apples, pears and berries | wash the fruit and cut it up |
add a spoon of honey | chill it before you serve it
noodle soup | noodles, carrots and chicken stock | heat the stock in a large pot |
add the sliced carrots | cook the noodles in it for six minutes
fried rice | cooked rice, peas and an egg | fry the rice in a little oil |
add the peas | stir in the beaten egg
hot chocolate | milk, cocoa and sugar | warm the milk in a small pot |
mix the cocoa with the sugar | whisk them into the milk
""",
)

COOKS = lines("""
Clara Finch
Victor Lane
Ruth Alder
Rosa Bright
""")

KITCHEN = table(
    "goal do why",
    """
keep bread fresh | store it in a cloth bag | cloth lets it breathe
peel garlic easily | press it with the flat side of a knife | pressed garlic soon loses its skin
cook perfect rice | rinse it before you boil it | rinsing removes loose starch
save a soup that is too salty | add some water | more water makes the salt weaker
test an egg | put it in a bowl of water | an old egg floats
stop milk from boiling over | use a large pot | a large pot leaves room for the foam
keep herbs green | stand them in a glass of water | cut stems still drink water
get more juice from a lemon | roll it on the table first | rolling breaks the little cells
make light pancakes | do not beat the batter for too long | beating makes it tough
boil eggs without cracks | lower them gently into the water | a hard knock breaks the shell
chop onions safely | cut them in half first | the flat side does not roll
warm a cold pie | put it in the oven and not in a pan | dry heat keeps the crust crisp
ripen hard pears | leave them in a bowl with a banana | a banana gives off a ripening gas
clean a burnt pan | soak it in warm water overnight | soaking loosens the black crust
measure honey neatly | oil the spoon first | honey slides off an oiled spoon
keep salad crisp | dry the leaves before you add oil | wet leaves soon become soft
roast potatoes well | heat the oil before you add them | hot oil makes a crust at once
whip cream quickly | chill the bowl | cold cream holds more air
store potatoes | keep them in a dark place | light turns them green
sharpen the taste of a stew | add a spoon of vinegar | a little acid wakes the other tastes
carry a hot dish | use dry oven gloves | wet cloth lets the heat through
freeze berries | spread them on a tray first | loose berries do not stick together
cook pasta well | use plenty of water | the pieces need room to move
keep cheese soft | wrap it in paper | paper stops it from drying out
bake an even cake | put it in the middle of the oven | the heat is most even in the middle
thicken a sauce | let it cook without a lid | an open pot lets the water boil away
crack an egg cleanly | tap it on a flat table | a sharp edge pushes bits of shell into the egg
stop a cut apple from turning brown | rub it with lemon juice | lemon juice slows the browning
""",
)

ANIMALS = table(
    "one many sort young food home fact",
    """
an owl | owls | a bird | owlets | mice and other small animals | in hollow trees and barns |
have soft feathers that let them fly almost without a sound
a fox | foxes | a mammal | cubs | mice, insects and fruit | in underground dens |
can hear a mouse that moves under the snow
a badger | badgers | a mammal | cubs | earthworms, roots and fruit | in burrows called setts |
carry fresh straw and leaves into their homes
an otter | otters | a mammal | pups | fish and crabs | beside rivers and coasts |
have thick fur that keeps their skin dry
a beaver | beavers | a mammal | kits | bark, leaves and water plants |
in lodges made of branches | cut down trees with their strong front teeth
a hedgehog | hedgehogs | a mammal | hoglets | beetles, worms and slugs |
under hedges and piles of leaves | roll into a ball when they are afraid
a bat | bats | a mammal | pups | insects or fruit | in caves, roofs and hollow trees |
are the only mammals that can truly fly
a honeybee | honeybees | an insect | larvae | nectar and pollen | in hives |
dance to show each other where the flowers are
an ant | ants | an insect | larvae | seeds, insects and sweet juices | in nests with many tunnels |
can carry loads much heavier than their own bodies
a dragonfly | dragonflies | an insect | nymphs | flies and other insects | near ponds and streams |
can fly backwards
a ladybird | ladybirds | an insect | larvae | tiny insects on plants | on leaves and stems |
warn hungry birds with their bright colours
a butterfly | butterflies | an insect | caterpillars | the nectar of flowers |
in gardens, woods and meadows | can taste with their feet
a spider | spiders | an arachnid | spiderlings | insects | in webs, holes and quiet corners |
have eight legs and make silk
a frog | frogs | an amphibian | tadpoles | insects, slugs and worms | in and near ponds |
breathe partly through their skin
a tortoise | tortoises | a reptile | hatchlings | leaves, grass and flowers |
in dry, warm places | can live for a hundred years
a crocodile | crocodiles | a reptile | hatchlings | fish, birds and larger animals |
in warm rivers and swamps | carry their babies gently in their mouths
a penguin | penguins | a bird | chicks | fish, squid and krill | mostly on cold southern coasts |
cannot fly but swim very well
a puffin | puffins | a bird | chicks | small fish | in burrows on sea cliffs |
can hold many little fish in their beaks at once
a swan | swans | a bird | cygnets | water plants | on lakes and slow rivers |
often keep the same partner for many years
a duck | ducks | a bird | ducklings | seeds, insects and water plants | on ponds and rivers |
spread oil on their feathers to keep the water out
a heron | herons | a bird | chicks | fish and frogs | near shallow water |
stand still for a long time before they strike
a woodpecker | woodpeckers | a bird | chicks | insects and nuts | in holes in trees |
drum on tree trunks with their beaks
a swallow | swallows | a bird | chicks | flying insects | in nests of mud under roofs |
fly to warm countries before winter comes
an eagle | eagles | a bird | eaglets | fish, birds and rabbits | on cliffs and in tall trees |
can see a rabbit from far away
an ostrich | ostriches | a bird | chicks | seeds, leaves and insects | on the plains of Africa |
lay the largest eggs of all living birds
a hummingbird | hummingbirds | a bird | chicks | nectar and small insects |
in North and South America | can stay still in the air in front of a flower
a whale | whales | a mammal | calves | fish, squid or krill | in the sea |
come to the surface to breathe air
a dolphin | dolphins | a mammal | calves | fish and squid | in the sea and in a few rivers |
find their way by listening to echoes
a seal | seals | a mammal | pups | fish and squid | mostly on cold coasts |
close their nostrils when they dive
a shark | sharks | a fish | pups | fish, squid and seals | in the sea |
have skeletons of cartilage instead of bone
a seahorse | seahorses | a fish | fry | tiny shrimps | among sea grass and corals |
have fathers that carry the eggs
an octopus | octopuses | a mollusc | hatchlings | crabs and shellfish | in dens on the sea floor |
have three hearts and blue blood
a snail | snails | a mollusc | hatchlings | leaves and soft plants | in damp, shady places |
carry their shells on their backs
an elephant | elephants | a mammal | calves | grass, leaves, bark and fruit |
in grasslands and forests | use their trunks to breathe, smell and lift things
a giraffe | giraffes | a mammal | calves | leaves | in the grasslands of Africa |
have seven bones in their long necks, just as people do
a camel | camels | a mammal | calves | dry grass and thorny plants | in deserts |
store fat in their humps
a horse | horses | a mammal | foals | grass and hay | in fields and stables |
can sleep while they are standing
a cow | cows | a mammal | calves | grass and hay | on farms |
have stomachs with four parts
a goat | goats | a mammal | kids | grass, leaves and twigs | on farms and mountains |
have eyes with wide, flat pupils
a pig | pigs | a mammal | piglets | roots, grain and many other things | on farms |
roll in mud to stay cool
a chicken | chickens | a bird | chicks | grain, seeds and insects | on farms |
take dust baths to keep their feathers clean
a rabbit | rabbits | a mammal | kittens | grass and leaves | in burrows called warrens |
have teeth that never stop growing
a squirrel | squirrels | a mammal | kittens | nuts, seeds and buds | in nests called dreys |
often bury nuts for the winter
a mouse | mice | a mammal | pups | seeds, grain and fruit | in small, soft nests |
use their whiskers to feel their way in the dark
a wolf | wolves | a mammal | pups | deer and other animals | in forests and on plains |
hunt together in family groups called packs
a kangaroo | kangaroos | a mammal | joeys | grass and leaves | in Australia |
carry their young in a pouch
a koala | koalas | a mammal | joeys | eucalyptus leaves | in the trees of Australia |
sleep for most of the day
a tiger | tigers | a mammal | cubs | deer and wild pigs | in the forests of Asia |
have stripes on their skin as well as on their fur
a polar bear | polar bears | a mammal | cubs | seals | on the ice of the Arctic |
have black skin under their pale fur
""",
)

SCIENCE = table(
    "ask asked answer",
    """
why is the sky blue | why the sky is blue | air scatters blue light more than red light
why do we see lightning before we hear thunder | why we see lightning before we hear thunder |
light travels much faster than sound
why does ice float | why ice floats | water takes up more room when it freezes
why does the Moon shine | why the Moon shines | it reflects the light of the Sun
why do we have day and night | why we have day and night | the Earth turns once a day
why do we have seasons | why we have seasons | the axis of the Earth is tilted
why does the sea rise and fall | why the sea rises and falls | the Moon and the Sun pull on it
why does a compass point north | why a compass points north | the Earth acts like a large magnet
why does iron rust | why iron rusts | it joins slowly with oxygen when it is wet
why does bread rise | why bread rises | yeast makes bubbles of gas in the dough
why are leaves green | why leaves are green | they take in red and blue light and send back green
why do stars twinkle | why stars twinkle | moving air bends their light
why do apples fall to the ground | why apples fall to the ground | gravity pulls them down
why does a metal spoon feel cold | why a metal spoon feels cold |
metal carries heat away from the hand quickly
why do puddles dry up | why puddles dry up | the water slowly turns into vapour
why does dew form on the grass | why dew forms on the grass |
vapour in the cool night air turns into drops
why are shadows long in the evening | why shadows are long in the evening |
the Sun is low in the sky
why do we hear an echo | why we hear an echo | sound bounces back from a hard wall
why does the heart beat faster when we run | why the heart beats faster when we run |
the muscles need more oxygen
why do we sweat | why we sweat | drying sweat carries heat away from the skin
why do we see rainbows | why we see rainbows | raindrops split sunlight into many colours
why does sugar vanish in tea | why sugar vanishes in tea |
it dissolves into pieces too small to see
why does oil float on water | why oil floats on water | oil is less dense than water
why does a candle go out under a glass | why a candle goes out under a glass |
the flame runs short of oxygen
why does a straw look bent in water | why a straw looks bent in water |
light changes direction when it leaves the water
why does a bell make a sound | why a bell makes a sound | it shakes quickly and shakes the air too
why does a blanket keep us warm | why a blanket keeps us warm | it holds a layer of still air
why do people put salt on icy roads | why people put salt on icy roads |
salty water freezes at a lower temperature
why does a ball bounce | why a ball bounces | it is squeezed and springs back into shape
why do wheels need oil | why wheels need oil | oil lowers the friction between moving parts
why is the sea salty | why the sea is salty | rivers carry salts from the rocks into it
why does Mars look red | why Mars looks red | its dust contains rust
why does the Moon seem to change its shape | why the Moon seems to change its shape |
we see different parts of its sunlit side
why do plants need light | why plants need light | they use it to make their food
why do onions make us cry | why onions make us cry | they give off a gas that stings the eyes
why do cut apples turn brown | why cut apples turn brown | they react with oxygen in the air
why does popcorn burst | why popcorn bursts | the water inside each grain turns into steam
why does milk turn sour | why milk turns sour | bacteria turn its sugar into acid
why does hot air rise | why hot air rises | it is lighter than the cold air around it
why do we need sleep | why we need sleep | the body and the brain must rest
""",
)

FACTS = table(
    "topic one two",
    """
oceans | the Pacific is the largest ocean on Earth | the Arctic Ocean is the smallest
water | pure water freezes at 0 degrees Celsius | it boils at 100 degrees at sea level
the Moon | the Moon goes around the Earth in about 27 days | it always shows us the same side
the Sun | the Sun is a star | its light needs about eight minutes to reach the Earth
planets | Jupiter is the largest planet of the Sun | Mercury is the smallest
Saturn | Saturn has bright rings | they are made mostly of ice
Venus | Venus is the hottest planet of the Sun | thick clouds always cover it
Mars | Mars is smaller than the Earth | it has two small moons
Neptune | Neptune is the farthest planet from the Sun | it looks blue
mountains | Mount Everest is the highest mountain above sea level | it stands in the Himalayas
the body | an adult has about 206 bones | more than half of them are in the hands and feet
blood | the heart pumps blood through the body | red blood cells carry oxygen
teeth | children have twenty milk teeth | most adults have thirty-two teeth
air | about one fifth of the air is oxygen | most of the rest is nitrogen
diamonds | diamond is the hardest natural mineral | it is made of carbon
gold | gold does not rust | it can be beaten into very thin sheets
iron | iron melts at a very high temperature | steel is made mostly of iron
glass | glass is made mostly from sand | it becomes soft when it is heated
trees | a tree grows a new ring most years | the rings help us to tell its age
seeds | seeds need water to sprout | many seeds can wait for years
flowers | bees carry pollen from flower to flower | many plants need them to make seeds
roots | roots hold a plant in the ground | they also take in water
bamboo | bamboo is a kind of grass | some kinds grow very fast
oaks | oak trees grow from acorns | an oak can live for hundreds of years
mushrooms | a mushroom is not a plant | mushrooms belong to the fungi
deserts | the Sahara is the largest hot desert | most of it receives very little rain
the Antarctic | the Antarctic is the coldest continent | it is covered by thick ice
rivers | the Nile flows north to the Mediterranean Sea | it is one of the longest rivers
volcanoes | melted rock under the ground is called magma | above the ground it is called lava
earthquakes | the outer layer of the Earth is made of plates | earthquakes happen where they slip
clouds | clouds are made of tiny drops or crystals of ice | fog is a cloud that touches the ground
snow | snow crystals usually have six sides | their shape depends on the air around them
wind | wind is moving air | it blows from high pressure to low pressure
sound | sound cannot travel through empty space | it travels faster in water than in air
light | white light is a mixture of colours | a glass prism can separate them
electricity | copper carries electricity well | rubber does not
magnets | every magnet has two poles | like poles push each other away
salt | table salt is made of sodium and chlorine | its crystals are little cubes
coal | coal formed from ancient plants | it took millions of years
fossils | fossils are traces of ancient life | many are found in layers of stone
dinosaurs | the large dinosaurs died out about 66 million years ago | birds are their relatives
leap years | a leap year has 366 days | the extra day comes at the end of February
triangles | the angles of a flat triangle add up to 180 degrees | a square has four right angles
""",
)

HISTORY = table(
    "town year event",
    """
Elmwick | 1204 | the first mill was built beside the Lind
Elmwick | 1350 | the Saturday market received its charter
Elmwick | 1567 | a great fire burned down half of Mill Lane
Elmwick | 1612 | the clock tower was finished
Elmwick | 1780 | the Lantern Fair was held for the first time
Elmwick | 1874 | the first train stopped at the new station
Pellbridge | 1312 | a ferryman named Pell built a wooden bridge
Pellbridge | 1455 | a flood carried the wooden bridge away
Pellbridge | 1462 | the stone bridge with five arches was opened
Pellbridge | 1698 | a rich widow gave her books to the town library
Pellbridge | 1821 | the town band played its first concert
Pellbridge | 1903 | the music school opened its doors
Saltmere | 1150 | a few families built huts of driftwood by the bay
Saltmere | 1333 | the harbour wall was raised with stones from Oakfell
Saltmere | 1590 | forty ships hid in the harbour during a storm
Saltmere | 1765 | the white lighthouse was lit for the first time
Saltmere | 1840 | the Herring Feast was held for the first time
Saltmere | 1881 | the hill railway was extended to the coast
Thornhollow | 1421 | monks planted the old orchard
Thornhollow | 1503 | the lake froze so hard that a market was held on the ice
Thornhollow | 1650 | a swarm of bees settled in the church roof
Thornhollow | 1733 | a school with one room was built
Thornhollow | 1872 | the railway station beside the lake was opened
Thornhollow | 1911 | a hundred new apple trees were planted
Oakfell | 1188 | the castle on the hill was begun
Oakfell | 1390 | lightning split the great tower of the castle
Oakfell | 1544 | potters found good clay below the castle
Oakfell | 1702 | snow closed the road for three months
Oakfell | 1871 | the first train climbed the hill
Oakfell | 1930 | the Snow Festival was held for the first time
Dunmarrow | 1267 | shepherds built the first stone houses by the moor
Dunmarrow | 1405 | the Sheep Fair was held for the first time
Dunmarrow | 1518 | the great wool hall was finished
Dunmarrow | 1666 | a shepherd found a hoard of silver on the moor
Dunmarrow | 1799 | the weavers opened a school for their children
Dunmarrow | 1925 | the first bus crossed the moor
""",
)

HOWTO = table(
    "goal first then why",
    """
mend a flat tyre | find the hole under water | press a patch over it | air bubbles show the hole
fold a paper boat | fold the sheet in half | turn up both edges | sharp folds keep the boat stiff
light a campfire | lay small dry sticks first | add larger logs later |
small sticks catch fire easily
sew on a button | push the needle up through a hole | go back down through the next hole |
four or five stitches hold a button firmly
wrap a present | measure the paper around the box | fold the ends into neat triangles |
neat corners need less tape
tie a scarf | fold it in half | pull the ends through the loop | the loop keeps out the wind
clean a window | wipe it with warm water | dry it with old newspaper | dry paper leaves few marks
wash a wool jumper | use cool water | lay it flat to dry | hot water makes wool shrink
draw a perfect circle | tie a pencil to a string | hold the other end of the string still |
the string keeps every point at the same distance
find north without a map | look for the Pole Star at night | walk towards it |
the Pole Star stands almost exactly above the North Pole
carry a heavy box | bend your knees | lift it close to your body |
bent knees protect your back
plant a tree | dig a hole wider than the roots | press the soil down firmly |
the young roots need firm, wet soil
paint a fence | brush off the dust | paint along the grain of the wood | paint sticks to clean wood
make a kite | cross two light sticks | cover them with thin paper | a light kite flies best
open a tight jar | hold the lid under hot water | twist it with a dry cloth |
metal grows a little in the heat
hang a picture straight | mark the height with a pencil | check it with a level |
the eye is easily fooled
learn new words | write them on small cards | repeat them every evening | short practice works best
save water | turn off the tap while you brush your teeth | mend every drip |
many small drops fill a bucket
cross a busy street | stop at the edge | look both ways | drivers may not see you
build a snowman | roll a large ball of snow | set a smaller ball on top | a wide base stands firmly
polish shoes | brush off the mud | rub in a little polish | wax keeps out the rain
read a map | turn it until north on the map points north | look for a road or a hill you know |
a turned map agrees with the land
dry flowers | tie them in small bunches | hang them upside down in a dark room |
darkness saves their colours
pack a rucksack | put heavy things close to your back | put the raincoat on top |
rain often comes suddenly
sharpen a pencil | hold it firmly in one hand | turn it slowly in the sharpener |
slow turns keep the point whole
make a bookmark | cut a strip of thick paper | tie a ribbon through a hole |
a ribbon is easy to find
treat a small cut | wash it with clean water | cover it with a plaster | clean cuts heal faster
store winter clothes | wash them well | pack them in a closed box | moths like dirty wool
""",
)

TALK = table(
    "ask reply",
    """
Is the bread still warm? | Yes, it came out of the oven ten minutes ago.
Have you seen my umbrella? | It is behind the door, where you left it.
What time does the train leave? | It leaves in ten minutes, so we must hurry.
Why is the gate open? | The goat pushed it with her nose again.
May I borrow your ladder? | Of course, but please bring it back before Sunday.
How many eggs do we need? | Four are enough for a small cake.
Did you sleep well? | Very well, thank you, until the rooster began to crow.
Can you hear the band? | Yes, they are playing the old river song.
Who left this basket here? | I think it belongs to the farmer.
Is it going to rain? | Look at the dark clouds over the hills.
Where did you find that shell? | It was on the beach, just below the lighthouse.
What are you reading? | It is a story about a ship and a clever mouse.
Do you need any help? | Yes, please hold this end of the rope.
How was the concert? | The first song was too slow, but the rest was lovely.
Shall we walk or take the bus? | Let us walk, because the evening is so fine.
Why are you smiling? | I have just had a letter from an old friend.
May I sit here? | Of course, there is plenty of room.
Where is the key? | It is under the blue flowerpot.
Did you water the beans? | Yes, and I picked a bowl of peas as well.
How far is it to the lake? | It is about two miles by the forest path.
Would you like some more soup? | Only a little, because I want to save room for cake.
What is in the parcel? | It is a clock for my grandmother.
Can you see the boat? | Yes, it is just passing the harbour wall.
When does the library close? | It closes at six, but at noon on Saturdays.
Who won the race? | The girl with the green cap was first.
Are you afraid of the dark? | Not when I have my lantern with me.
Which road leads to the mill? | Take the left one and cross the little bridge.
Why is the clock so slow? | Nobody wound it this morning.
What did the doctor say? | I must stay in bed and drink hot tea.
Is the ice thick enough? | No, please stay on the bank.
Have you fed the hens? | Yes, and they have laid seven eggs.
What is that bright star? | It is not a star but the planet Venus.
Did you hear that noise? | It was only the wind in the chimney.
Can we keep the kitten? | Yes, if you promise to look after it.
What shall we cook tonight? | Let us make a stew with the last carrots.
""",
)

TELLS = table(
    "tell one two",
    """
The shop opens at eight tomorrow. | Then I will be there at eight. | Good, because we have no milk.
The first apples are ripe. | Let us fetch the long ladder. | I can smell them from here.
My bicycle has a new bell. | I heard it from far away. | Please do not ring it at night.
There is fresh snow on the hills. | Then we can take the sledge. | I must find my warm gloves.
The river is very high today. | Stay away from the edge. | It rained all night in the hills.
I have finished the last chapter. | Tell me how it ends. | Then you may have the next book.
The circus is coming in June. | I hope there will be acrobats. | We must save our coins.
The music teacher plays the flute. | She leads the band as well. | I did not know that.
We have won the chess match. | That calls for a cake. | I knew that you would.
The swallows have come back. | Then spring is really here. | I saw their nest under the roof.
I have lost my left glove. | Look under the bench in the hall. | You can have one of mine.
The road to the castle is closed. | Then we will take the forest path. | We can go there next week.
Supper is ready. | We will wash our hands first. | It smells wonderful.
I saw a shooting star last night. | I hope that you made a wish. | I was already asleep.
""",
)

SPEAKERS = table(
    "asker other",
    """
Leo | his sister
Leo | his uncle
Leo | his mother
Mia | her brother
Mia | her uncle
Mia | her mother
Anna | her father
Anna | her friend Mia
Finn | his aunt
Finn | his father
the boy | the old sailor
the girl | the miller
""",
)

MORNINGS = lines("""
I woke at six and watched the sun rise
I overslept and missed the early bus
I swept the kitchen and fed the hens
I walked to the market and bought a bag of carrots
I helped my brother to mend the fence
I had porridge with honey for breakfast
I wrote two letters at the kitchen table
I went to school in the rain
I practised the piano for an hour
I picked berries behind the house
I took the early train to the coast
I cleaned my bicycle and oiled the chain
I visited my grandmother and brought her flowers
I returned three books to the library
I learned ten new words by heart
I planted beans along the wall
I swam in the lake before breakfast
I found a small frog beside the well
""")

AFTERNOONS = lines("""
I read a book under the apple tree
we played football until it was too dark to see
I drew a map of our street
a friend came to tea and stayed for hours
we baked a cake that was a little too brown
I helped to carry wood into the shed
we walked along the river and counted the boats
I lost at chess, but only just
it rained, so we played cards by the window
I painted the old chair blue
we flew a kite on the hill
I did my sums and made only one mistake
the cat followed me all the way to the bridge
we made lemonade and sold it at the gate
I repaired the lamp in the hall
we picked up shells on the beach
I fell asleep in the long grass
we built a raft from old boards
""")

EVENINGS = lines("""
In the evening we had soup and went to bed early.
At night I could see every star.
After supper my uncle told us a story.
I am tired, but it is a good kind of tired.
Tomorrow I want to get up earlier.
Before bed I read one more chapter.
We laughed a lot at supper.
I must remember to write to my aunt.
It was a quiet and happy day.
Now the rain is tapping on the roof.
I am looking forward to next week.
I fell asleep as soon as I lay down.
The house smells of fresh bread.
I hope that tomorrow will be just as fine.
""")

RACES = table(
    "event town length",
    """
boat race on the Osk | Pellbridge | three miles
hill race to the castle | Oakfell | five miles
swimming race across Glass Lake | Thornhollow | one mile
sailing race around the bay | Saltmere | six miles
bicycle race over Dun Moor | Dunmarrow | twenty miles
running race through Elm Park | Elmwick | two miles
""",
)

VISITS = table(
    "town do did",
    """
Elmwick | climb the clock tower | climbed the clock tower
Elmwick | buy warm bread in Mill Lane | bought warm bread in Mill Lane
Elmwick | feed the ducks in Elm Park | fed the ducks in Elm Park
Elmwick | look at the stalls in the square | looked at the stalls in the square
Pellbridge | walk across the stone bridge | walked across the stone bridge
Pellbridge | row a small boat on the Osk | rowed a small boat on the Osk
Pellbridge | listen to the town band | listened to the town band
Pellbridge | borrow a book from the old library | borrowed a book from the old library
Saltmere | watch the fishing boats come home | watched the fishing boats come home
Saltmere | climb the steps of the lighthouse | climbed the steps of the lighthouse
Saltmere | eat fried fish on the harbour wall | ate fried fish on the harbour wall
Saltmere | look for shells on the beach | looked for shells on the beach
Thornhollow | pick apples in the old orchard | picked apples in the old orchard
Thornhollow | walk around Glass Lake | walked around Glass Lake
Thornhollow | taste three kinds of honey | tasted three kinds of honey
Oakfell | explore the ruined castle | explored the ruined castle
Oakfell | watch the potter at his wheel | watched the potter at his wheel
Oakfell | walk to the source of the Lind | walked to the source of the Lind
Dunmarrow | visit the great wool hall | visited the great wool hall
Dunmarrow | walk across the moor | walked across the moor
Dunmarrow | buy a thick blanket from the weavers | bought a thick blanket from the weavers
""",
)

GOODS = table(
    "shop one many price",
    """
the bakery in Elmwick | a loaf of bread | loaves of bread | 3
the bakery in Elmwick | a currant bun | currant buns | 2
the bakery in Elmwick | a honey cake | honey cakes | 8
the farm shop in Elmwick | a cabbage | cabbages | 2
the farm shop in Elmwick | a bag of carrots | bags of carrots | 3
the farm shop in Elmwick | a bunch of roses | bunches of roses | 5
the farm shop in Elmwick | a pumpkin | pumpkins | 6
the paper shop in Elmwick | a pencil | pencils | 1
the paper shop in Elmwick | a notebook | notebooks | 4
the fish stall in Saltmere | a crab | crabs | 5
the fish stall in Saltmere | a smoked fish | smoked fish | 4
the harbour shop in Saltmere | a lantern | lanterns | 11
the harbour shop in Saltmere | a fishing net | fishing nets | 14
the orchard shop in Thornhollow | a basket of apples | baskets of apples | 4
the orchard shop in Thornhollow | a jar of honey | jars of honey | 6
the orchard shop in Thornhollow | a bottle of apple juice | bottles of apple juice | 3
the pottery in Oakfell | a cup | cups | 5
the pottery in Oakfell | a blue bowl | blue bowls | 7
the pottery in Oakfell | a tall vase | tall vases | 12
the wool hall in Dunmarrow | a ball of wool | balls of wool | 3
the wool hall in Dunmarrow | a warm scarf | warm scarves | 9
the wool hall in Dunmarrow | a pair of socks | pairs of socks | 4
the wool hall in Dunmarrow | a blanket | blankets | 20
the bookshop in Pellbridge | a map | maps | 5
the bookshop in Pellbridge | a picture book | picture books | 9
the bookshop in Pellbridge | a postcard | postcards | 1
the music shop in Pellbridge | a wooden flute | wooden flutes | 15
the music shop in Pellbridge | a small drum | small drums | 18
""",
)

PROVERBS = lines("""
A slow cart still brings the apples home.
The lamp that is shared lights two paths.
Ask the river, and it will tell you to keep moving.
A borrowed hat never fits in the wind.
Small keys can open very heavy doors.
He who counts the clouds forgets to plant.
The best soup waits for the last guest.
A kind word weighs nothing and carries far.
Even the tallest tower began with one stone.
The goat that knows the gate needs no map.
Plant in the rain and you will eat in the sun.
A quiet bell is still a bell.
Mend the roof while the sun is drying it.
Two oars make a straight road on the water.
The Moon does not hurry, and yet it crosses the sky.
A full basket is heavy, but an empty one is heavier at supper.
Whoever feeds the hens will hear about the eggs first.
The longest letter begins with one word.
You cannot knit a scarf from tomorrow's wool.
A good neighbour is a second roof.
The fish is fresh only once.
Listen twice before you shout across the valley.
The snail also reaches the garden wall.
A cracked cup can still hold flowers.
Old bread makes good toast, and old friends make good company.
Every path is shorter when someone sings.
Do not blame the ladder for the height of the tree.
The first frost teaches the gardener to look up.
A sharp pencil writes no better story.
The wise baker rises before the dough.
One swept step invites the next.
A boat in the harbour catches no herring.
Salt the soup, not the story.
The patient angler dines late but well.
When the wind is rude, the willow bows.
A door that is never opened becomes a wall.
The smallest candle is proud in a dark room.
Thank the rain before you praise the harvest.
The clock does not argue with the hour.
A shared umbrella keeps two shoulders dry.
Carry water for others, and your own jug is never empty.
It is easier to sharpen the axe than to scold the wood.
The sheep that wanders learns the hills.
Good manners take up no room in the luggage.
Honey remembers every flower in the field.
A proud rooster does not make the morning.
Whoever laughs at the fog will meet the fence.
The deepest well starts with a wet shoe.
""")

DEFINITIONS = table(
    "term means sample",
    """
an orchard | a piece of land where fruit trees grow | the orchard was white with blossom
a harbour | a place by the sea where ships are safe | six boats slept in the harbour
a recipe | a list of steps for making a dish | my aunt wrote the recipe on a card
a compass | a tool with a needle that points north | the walker looked at her compass
a bridge | a road that crosses a river or a valley | the bridge has five arches
a library | a place where people borrow books | the library is quiet in the morning
a carpenter | a person who makes things from wood | the carpenter built a strong table
a glacier | a slow river of ice | the glacier moves a little every day
a desert | a dry region where few plants grow | nights in the desert can be cold
a lantern | a lamp that you can carry | she hung the lantern on a hook
a diary | a book in which people write about their days | his diary was full of small drawings
an island | a piece of land with water all around it | we rowed to the island
a valley | the low land between hills | a stream runs through the valley
a thermometer | a tool that measures temperature | the thermometer showed six degrees
a telescope | a tool that makes distant things look near | we saw the Moon through a telescope
a microscope | a tool that makes tiny things look large | a leaf looks strange under a microscope
a century | a period of one hundred years | the tower has stood for four centuries
a decade | a period of ten years | he has lived here for a decade
a triangle | a flat shape with three sides | she folded the paper into a triangle
a square | a flat shape with four equal sides and four right angles | the table top is a square
a circle | a round line with every point equally far from its centre |
a coin has the shape of a circle
an orchestra | a large group of musicians | the orchestra played for two hours
a choir | a group of people who sing together | the choir practises on Tuesdays
a museum | a building where old or beautiful things are shown | the museum has a room of clocks
a seed | the part of a plant from which a new plant can grow | the seed lay in the dark soil
a hive | a home for bees | the hive hummed all afternoon
a flock | a group of birds or sheep | the flock followed the shepherd
a village | a small group of houses in the country | the village has only one shop
a poem | a short text that often has rhythm or rhyme | the poem was about the sea
a map | a drawing that shows where places are | the map was torn at one corner
an author | a person who writes books | the author read from her novel
a lighthouse | a tower with a bright light that guides ships | the lighthouse warns every captain
a shadow | the dark shape made when something blocks the light | my shadow was longer than the fence
an echo | a sound that bounces back | we shouted and waited for the echo
a magnet | an object that attracts iron | the magnet picked up six nails
a volcano | a mountain or hill through which lava can reach the surface |
smoke rose from the volcano
a vet | a doctor for animals | the vet looked at the pony's foot
a weaver | a person who makes cloth | the weaver chose a red thread
a ferry | a boat that carries people across the water | the ferry leaves at noon
a proverb | a short saying that gives advice | my grandfather has a proverb for every day
a meadow | a field of grass and wild flowers | the meadow was full of butterflies
a chapter | one part of a book | the last chapter made me laugh
a tide | the rise and fall of the sea | the tide covered the rocks
a hobby | something people do for pleasure | his hobby is building kites
a fraction | a part of a whole number | one half is a simple fraction
""",
)

WORKS = table(
    "title sort maker about liked disliked",
    """
The Clock Under the Lake | novel | Edith Marlow |
a diver who finds a clock that still ticks | the ending is a real surprise | the middle is slow
A Lantern for Mister Crane | picture book | Hugo Vint |
a bird who is afraid of the dark | the drawings are warm and funny | it is very short
Seven Miles of Snow | film | Petra Lund |
two sisters who carry the post through a storm | the mountains look splendid | the music is too loud
The Baker's Secret Map | novel | Owen Tarry |
a baker who finds a map in a sack of flour | every chapter is exciting | there are too many names
Grandfather's Orchestra | film | Lena Borg |
an old man who builds instruments from scrap | the actors are excellent |
the first half hour is quiet
The Island of Spoons | play | Martin Ashby |
a cook who is lost at sea | the jokes are clever | the last act is a little long
How the Hills Learned to Sing | picture book | Nell Harper |
a shepherd who teaches the wind a song | children will ask for it every night |
the print is small
The Last Ferry to Orrin | novel | Edith Marlow |
a ferryman who never speaks | the language is beautiful | the story moves slowly
Paper Wings | film | Petra Lund |
a girl who builds a flying machine | the flying scenes are wonderful | the ending is too neat
The Quiet Detective | novel | Simon Brack |
a detective who solves crimes by listening | the puzzle is fair | the villain is easy to guess
A Spoonful of Stars | book of poems | Nell Harper |
summer nights in the country | the poems are gentle and clear | a few verses are too sweet
Winter at Number Nine | play | Agnes Doyle |
neighbours who share one stove | the characters feel like friends | very little happens
The Fox Who Kept Accounts | picture book | Hugo Vint |
a fox who opens a shop | the story is full of sly humour | the sums are hard for small children
Letters from the Salt Road | novel | Owen Tarry |
a trader who crosses a desert | the places seem real | the letters are rather long
The Umbrella Thief | film | Lena Borg |
a thief who steals only umbrellas | the chase through the rain is great fun |
the sound is poor
Twelve Bridges | book of poems | Simon Brack |
the rivers of the north | every poem has its own music | some lines are hard to follow
""",
)

EXPERIMENTS = table(
    "need do see why",
    """
a glass of water, salt and an egg | stir plenty of salt into the water and add the egg |
the egg floats | salt water is denser than fresh water
a magnet and a tray of sand and iron nails | move the magnet over the tray |
the nails jump out of the sand | magnets attract iron
a white flower, water and blue ink | stand the flower in water with blue ink |
the petals turn blue after a day | a stem carries water up to the petals
a balloon and a wool jumper | rub the balloon on the jumper and hold it near your hair |
your hair stands up | rubbing gives the balloon an electric charge
a jar, a candle and a match | ask an adult to light the candle and cover it with the jar |
the flame goes out | a flame needs oxygen
vinegar and baking soda | pour the vinegar onto the baking soda |
the mixture foams | vinegar and baking soda make a gas called carbon dioxide
two paper cups and a long string |
join the cups with the string, pull it tight and speak into one cup |
your friend can hear every word | sound travels along a tight string
a mirror, a bowl of water and sunlight | hold the mirror in the water so that the Sun shines on it |
a rainbow appears on the wall | water bends each colour by a different amount
a glass, some ice and warm air | fill the glass with ice and wait |
drops form on the outside | vapour in the air turns into water on cold glass
a bottle, a balloon and hot water | pull the balloon over the bottle and stand it in hot water |
the balloon swells | air takes up more room when it is warm
pepper, a bowl of water and soap | sprinkle pepper on the water and add a drop of soap |
the pepper rushes to the edge | soap weakens the skin of the water
a stick and a sunny wall | mark the shadow of the stick every hour |
the shadow moves | the Earth turns
two seeds and two pots | keep one pot in the light and the other in a dark cupboard |
the plant in the dark grows pale and thin | plants need light
red cabbage juice and a lemon | squeeze the lemon into the juice |
the juice turns pink | red cabbage juice changes colour in acid
a cup of hot tea and two spoons | put a metal spoon and a wooden spoon into the tea |
the metal spoon becomes hot first | metal carries heat better than wood
oil, water and a tall glass | pour oil and water into the glass and wait |
the oil rises to the top | oil is less dense than water
a battery, a wire and a small lamp | join the lamp to both ends of the battery |
the lamp shines | electricity flows in a closed circle
a coin, a cup and water | put the coin in the cup and pour in water |
the coin seems to rise | light bends when it leaves the water
""",
)

PLANTS = table(
    "many sow where ready tip",
    """
carrots | March | in loose, sandy soil | July | thin out the young plants
beans | May | beside tall poles | August | pick the pods while they are tender
peas | March | along a low fence | June | give them something to climb
potatoes | April | in deep, rich soil | August | heap earth around the stems
pumpkins | May | in a sunny corner | October | water them deeply in dry weather
onions | March | in an open bed | August | stop watering when the leaves bend over
lettuces | April | in light shade | June | sow a few seeds every two weeks
tomatoes | March | in pots by a warm window | August | remove the small side shoots
radishes | April | in short rows | May | keep the soil wet
turnips | April | in cool, firm soil | July | pull them before they turn woody
beetroots | April | in a sunny bed | July | pull them while they are small
cabbages | April | in firm soil | October | cover them against hungry birds
leeks | March | in a small seed tray | October | plant them out in deep holes
cucumbers | May | under glass | July | never let the roots dry out
sunflowers | April | against a warm wall | August | tie the tall stems to a stick
marigolds | April | near the vegetables | June | cut off the dead flowers
poppies | March | in bare soil | June | do not move the young plants
sweet peas | March | below a net | June | cut the flowers often
cornflowers | March | in poor, dry soil | June | cut off the faded heads
courgettes | May | in rich soil | July | pick the fruits while they are small
""",
)

INSTRUMENTS = table(
    "one sort how fact player",
    """
the violin | a string instrument | drawing a bow, with the instrument under the chin |
has four strings | Grace Wood
the cello | a string instrument | drawing a bow, with the instrument between the knees |
is larger than the violin |
Peter Lark
the double bass | a string instrument | drawing a bow, standing beside the instrument |
is larger than the cello | George Flint
the guitar | a string instrument | plucking or strumming the strings |
usually has six strings | Ben Carver
the harp | a string instrument | plucking the strings with both hands | stands on the floor |
Iris Marsh
the flute | a wind instrument | blowing across a hole | has a high, clear voice | Lucy Bell
the clarinet | a wind instrument | blowing past a single reed | is often made of dark wood |
Ada Moss
the oboe | a wind instrument | blowing through a double reed | gives the note for tuning |
Hannah Frost
the recorder | a wind instrument | blowing into one end | is easy to begin | Mia
the trumpet | a brass instrument | buzzing the lips into a small cup | has three valves |
Samuel Dean
the tuba | a brass instrument | buzzing the lips into a large cup | has a very deep voice |
Victor Lane
the horn | a brass instrument | buzzing the lips into a narrow cup | has a long, coiled tube |
Will Thatch
the drum | a percussion instrument | striking the skin with sticks | keeps the beat | Tom Finch
the xylophone | a percussion instrument | striking wooden bars | has a dry, bright sound | Leo
the piano | a keyboard instrument | pressing the keys | usually has 88 keys | Nora Quill
the accordion | a keyboard instrument | pressing the keys while you move the bellows |
has reeds inside | Joe Marsh
""",
)

TUNES = lines("""
The Miller's Daughter
Rain on the Bridge
Three Herons
The Slow Train Home
Lanterns in October
Over Dun Moor
The Silver Star
The Apple Fair
""")
