"""Reading and writing `game.tw-pddl`, and what is refused."""

import importlib.resources
import json

import pytest

from agentgym_rft.envs.alfworld.game import Goal, TaskType
from agentgym_rft.envs.alfworld.goals import goal_clause, read_goal
from agentgym_rft.envs.alfworld.pddl import domain_fingerprint, game_document, grammar_fingerprint, parse_game
from agentgym_rft.envs.alfworld.tasks import GeneratedTasks
from agentgym_rft.errors import DataError, UnsupportedGameError
from tests.envs.alfworld.real_games import FOLDER, common, needs_real_games
from tests.envs.alfworld.tiny_games import MUG_ON_SHELF, household, kitchen

GOALS = [
    Goal(task_type, "Mug", "Shelf" if task_type is not TaskType.LIGHT else "DeskLamp", sliced)
    for task_type in TaskType
    for sliced in (False, True)
    if not (sliced and task_type is TaskType.LIGHT)
]


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: f"{goal.task_type.value}-{goal.sliced}")
def test_a_written_game_reads_as_the_same_game(goal):
    game = kitchen(goal)
    document = game_document(game)
    assert parse_game(document, "x") == game
    assert parse_game(json.dumps(document), "x") == game
    assert read_goal(goal_clause(goal)) == goal


def test_generated_games_read_as_they_were_written():
    tasks = GeneratedTasks()
    for task_id in tasks.task_ids("valid_unseen")[:12]:
        game = tasks.game(task_id)
        read = parse_game(tasks.document(task_id), task_id)
        assert read == game
        assert read.content() == tasks.content(task_id)


def test_a_task_with_quotes_and_a_sink_that_cleans_survive_writing():
    game = household(
        MUG_ON_SHELF,
        {"Sink_bar_1": "loc_bar_1", "Shelf_bar_1": "loc_bar_1"},
        {"Mug_bar_1": ["Sink_bar_1"]},
        clean_with=("SinkType", "SinkBasinType"),
    )
    assert parse_game(game_document(game), "x") == game


def test_content_does_not_depend_on_the_order_of_facts_or_the_walkthrough():
    game = kitchen()
    document = game_document(game)
    lines = document["pddl_problem"].split("\n")
    facts = [i for i, line in enumerate(lines) if line.startswith("        (") and "Type" in line]
    lines[facts[0]], lines[facts[1]] = lines[facts[1]], lines[facts[0]]
    other = parse_game({**document, "pddl_problem": "\n".join(lines), "walkthrough": ["look"]}, "x")
    assert other != game
    assert other.content_hash() == game.content_hash()
    assert kitchen(GOALS[3]).content_hash() != game.content_hash()


def test_class_names_that_official_files_declare_as_objects_are_left_out():
    document = game_document(kitchen())
    problem = document["pddl_problem"].replace("agent1 - agent", "agent1 - agent\n Mug - object\n Apple - object")
    assert parse_game({**document, "pddl_problem": problem}, "x") == kitchen()


def test_comments_and_white_space_of_domain_and_grammar_do_not_matter():
    document = game_document(kitchen())
    document["pddl_domain"] = "; a comment\n" + document["pddl_domain"].replace("\n", "  \n\n")
    document["grammar"] = document["grammar"].replace("\n", " \n\n  ")
    assert parse_game(document, "x").objects == kitchen().objects


@pytest.mark.parametrize(
    ("key", "old", "new", "reason"),
    [
        ("pddl_domain", "(isHot ?o)", "(isCool ?o)", "domain"),
        ("grammar", "You open the", "You opened the", "grammar"),
        ("grammar", "move {o} to {r}", "put {o} in/on {r}", "grammar"),
        ("pddl_problem", "(exists (?r - receptacle)", "(forall (?r - receptacle)", "goal"),
        ("pddl_problem", "(openable Fridge_bar_1)", "(broken Fridge_bar_1)", "predicate 'broken'"),
    ],
)
def test_rules_that_the_own_engine_does_not_know_are_refused_with_the_other_backend(key, old, new, reason):
    document = game_document(kitchen())
    assert old in document[key]
    document[key] = document[key].replace(old, new)
    with pytest.raises(UnsupportedGameError, match=rf'some/file\b.*{reason}.*backend="textworld"'):
        parse_game(document, "some/file")


def test_two_goal_about_two_kinds_of_objects_is_refused():
    document = game_document(kitchen(Goal(TaskType.TWO, "Mug", "Shelf")))
    document["pddl_problem"] = document["pddl_problem"].replace(
        "(objectType ?o2 MugType)", "(objectType ?o2 AppleType)"
    )
    with pytest.raises(UnsupportedGameError, match="goal"):
        parse_game(document, "x")


def test_a_sliced_object_under_a_lamp_cannot_be_written():
    with pytest.raises(DataError, match="sliced"):
        game_document(kitchen(Goal(TaskType.LIGHT, "Apple", "DeskLamp", sliced=True)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "a list"),
        ("[" * 5000, "not JSON .it nests too many levels"),
        ('{"pddl_domain": "\\ud800"}', "no text under 'pddl_domain'"),
        ("{}", "no text under 'pddl_domain'"),
        ('{"pddl_domain": "", "grammar": 3, "pddl_problem": ""}', "no text under 'grammar'"),
    ],
)
def test_damaged_documents_are_data_errors_that_name_the_file(text, message):
    with pytest.raises(DataError, match=f"some/file.*{message}"):
        parse_game(text, "some/file")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(:init", "(:start", "expected"),
        ("(openable Fridge_bar_1)", "(openable Fridge_bar_1", "not a fact"),
        ("(openable Fridge_bar_1)", "(openable Freezer_bar_1)", "fits no declared objects"),
        ("(openable Fridge_bar_1)", "(openable Fridge_bar_1 Mug_bar_1)", "fits no declared objects"),
        ("Mug_bar_1 - object", "Mug_bar_1 - thing", "'thing' is not a type"),
        ("loc_bar_4 - location", "loc_bar_4 - location\n stray", "'stray'"),
    ],
)
def test_damaged_problems_are_data_errors_that_name_the_file(old, new, message):
    document = game_document(kitchen())
    assert old in document["pddl_problem"]
    document["pddl_problem"] = document["pddl_problem"].replace(old, new)
    with pytest.raises(DataError, match=f"some/file.*{message}"):
        parse_game(document, "some/file")


def test_a_walkthrough_must_be_a_list_of_commands():
    for walkthrough in ("look", [1], {"a": "b"}):
        with pytest.raises(DataError, match="walkthrough"):
            parse_game({**game_document(kitchen()), "walkthrough": walkthrough}, "x")


def test_truncated_files_are_always_data_errors():
    text = json.dumps(game_document(kitchen()))
    for length in range(0, len(text), 997):
        with pytest.raises(DataError):
            parse_game(text[:length], "x")


@needs_real_games
def test_the_published_games_have_a_known_domain_and_grammar():
    assert FOLDER.is_dir()
    document = {**game_document(kitchen()), "pddl_domain": common()["pddl_domain"], "grammar": common()["grammar"]}
    game = parse_game(document, "x")
    assert game.task == "@@TASK@@"
    assert game.clean_with == ("SinkBasinType",)  # no receptacle of SinkType here, so the rules are the same


@pytest.mark.alfworld
def test_the_shipped_domain_and_grammar_are_those_of_alfworld():
    pytest.importorskip("alfworld.agents")
    document, data = game_document(kitchen()), importlib.resources.files("alfworld") / "data"
    assert domain_fingerprint(document["pddl_domain"]) == domain_fingerprint((data / "alfred.pddl").read_text())
    assert grammar_fingerprint(document["grammar"]) == grammar_fingerprint((data / "alfred.twl2").read_text())
