"""Everyday questions and small tasks, written for the demo on a real model; as the project, under Apache-2.0."""

PROMPTS = tuple(
    """\
Why is the sea salty?
How do I get a coffee stain out of a white shirt?
What should I cook tonight with rice, eggs and one onion?
Explain what a mortgage is.
Write a birthday wish for my grandmother, who turns eighty.
What is the difference between weather and climate?
How long should I boil an egg so that the yolk stays soft?
Suggest a name for a small grey cat.
Why do leaves change colour in autumn?
How can I fall asleep faster?
Tell my neighbour politely that his music is too loud.
What does a plumber do?
Name three things to see in Lisbon.
How do bees make honey?
I lost my keys. Where should I look first?
What is a good first book for a ten-year-old who likes dragons?
Describe the taste of a lemon to somebody who never had one.
How do I ask my boss for a day off?
What is inflation?
Give me a reason to learn to swim.
Why does bread rise?
How do I keep basil alive on a windowsill?
What should I pack for a weekend in the mountains?
Write the first line of a detective story.
How does a bicycle stay upright?
What can I do on a rainy Sunday with two small children?
Explain photosynthesis to a child.
Is it cheaper to cook at home or to eat out?
How do I thank a teacher at the end of the school year?
What makes a joke funny?
Why do cats purr?
How often should I water a cactus?
What is the capital of Australia, and why is it not Sydney?
Help me decide between tea and coffee in the morning.
How do I fix a squeaky door?
What is a polite way to leave a party early?
Tell me something surprising about octopuses.
How do vaccines work?
Write a slogan for a bakery that opens at five in the morning.
What should I say to a friend who failed an exam?
Why is the sky dark at night?
How do I remove a sticker from glass?
What are the rules of noughts and crosses?
Name a fruit that is not sweet.
How do I start running when I am out of shape?
What is the point of a passport?
Recommend a film for a quiet evening.
How does a microwave oven heat food?
Write a note for the fridge that reminds everybody to close the window.
Why do we have leap years?
How do I make a paper boat?
What is the best time of day to take photographs outdoors?
My houseplant has brown tips. What is wrong?
How do I explain death to a five-year-old?
What is a fair way to share one cake between three people?
Tell me what a black hole is.
How do I choose a ripe melon?
Which is heavier, a litre of oil or a litre of water?
Write a text message that cancels dinner without hurting anybody.
What does a conductor of an orchestra do?
Why do onions make us cry?
How can I save a little money each month?
What is the longest river in Africa?
How do I teach a dog to sit?
Give me an idea for a cheap present.
What happens to the body when we laugh?
How do I write a good headline?
What should a first aid kit contain?
Explain the offside rule in football.
How do I get over stage fright?
Why is copper used in electric wires?
What is the difference between a fruit and a vegetable?
How do I clean a wooden chopping board?
Invent a new holiday and say how people celebrate it.
What is a healthy snack for the office?
How do magnets work?
What do I need to build a simple bookshelf?
Why do people yawn?
Say in plain words what artificial intelligence is.
How do I apologise after forgetting an anniversary?
What is a good way to learn ten new words a day?
How do planes stay in the air?
Write a short poem about an empty train station.
What should I do if my phone falls into water?
Why do some people like horror films?
How do I measure a room without a tape measure?
What are the phases of the moon?
Name an animal that sleeps standing up.
How do I make my handwriting easier to read?
What is compound interest?
Tell me how to fold a fitted sheet.
Why is exercise good for the mood?
How do I choose a password that I can remember?
What is a good question to ask on a first date?
How is paper made?
What can I use instead of butter in a cake?
Why does ice float?
How do I calm a crying baby?
Describe a perfect breakfast.
What is the use of a semicolon?
How do I plan a surprise party?
Why do countries have flags?
What should I check before I buy a used car?
How do I cut an avocado safely?
What is the fastest land animal?
Give my old bicycle a name and a character.
How do I stop hiccups?
What does it mean to be brave?
Why do we dream?
How do I read a bus timetable?
What is a good hobby for somebody who works at a desk?
How do I keep ants out of the kitchen?
Explain supply and demand with apples.
What is the smell of rain?
How do I introduce myself in a new class?
Why did people build castles on hills?
What should I drink when it is very hot?
How do I find north without a compass?
Write a thank-you note to a bus driver.
What is the difference between a lake and a pond?
How do I sharpen a kitchen knife?
Why are flamingos pink?
What are two advantages of living in a small town?
How do I pick a lock of hair out of a drain?
What is a vegetarian dish that even meat eaters like?
How do lighthouses help ships?
Should I learn the piano or the guitar first?
What is gravity?
How do I become a better listener?
Why does my bread get stale, and how can I slow it down?
What would you put into a time capsule?
How do I take care of leather shoes?
What is the job of the kidneys?
Suggest a title for a story about two brothers and a boat.
How do I divide chores fairly in a shared flat?
Why do birds fly south in winter?
What is the easiest way to peel garlic?
How do I say no to a salesman?
What is a haiku?
How do I tell whether an egg is still good?
Why do we shake hands?
What is the purpose of a roundabout?
How do I grow tomatoes on a balcony?
Give one tip for writing a letter of application.
What is the difference between a virus and a bacterium?
How do I keep a fire going in a stove?
Why is the number zero useful?
What should I do when I get lost in a foreign city?
How do I make lemonade?
What makes a good friend?
How do elevators know where to stop?
Why do old books smell?
What is a marathon?
How do I convince my family to recycle?
Describe snow without the words cold and white.
What is the best way to store potatoes?
How do I set up a tent in the wind?
Why do clocks go clockwise?
What can I plant in the shade?
How do I write a complaint that gets an answer?""".splitlines()
)
