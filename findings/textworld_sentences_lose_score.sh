#!/bin/sh
# textworld 1.7.0: of a command with several sentences the score, the text and the tracked state are the first one's.
#
# A game prints its score and its moves between tags after every sentence. `Inform7Data` looks for the first opening and
# the last closing tag at once, takes the first number in between for the score, and cuts everything between them out of
# the text, from which `StateTracking` then learns what happened. So `look. take coin` wins a game with score 0, and
# after `look. go east` the admissible commands are still those of the room before.
#
# Output seen:
#   one sentence: won True, score 1, says pick up True
#   two sentences: won True, score 0, says pick up False
# Fails if this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/play.py" <<'PYTHON'
import sys

import textworld

for name, command in (("one sentence", "take coin"), ("two sentences", "look. take coin")):
    wanted = textworld.EnvInfos(score=True, won=True, admissible_commands=True)
    game = textworld.start(sys.argv[1], wanted)
    game.reset()
    state = game.step(command)[0]
    print(f"{name}: won {state.won}, score {state.score}, says pick up {'pick up' in state.feedback}")
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "textworld==1.7.0"
"$folder/venv/bin/tw-make" tw-coin_collector --level 1 --seed 1 --output "$folder/coin.z8" --silent > "$folder/made" 2>&1
"$folder/venv/bin/python" "$folder/play.py" "$folder/coin.z8" 2> /dev/null | tee "$folder/seen"
grep -qx "one sentence: won True, score 1, says pick up True" "$folder/seen"
grep -qx "two sentences: won True, score 0, says pick up False" "$folder/seen"
