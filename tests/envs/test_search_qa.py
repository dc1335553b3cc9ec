"""Question answering: the world and its questions, grading, players, episodes."""

from collections import Counter

import numpy as np
import pytest

from agentgym_rft.envs.search_qa.env import SearchQAEnv, index
from agentgym_rft.envs.search_qa.grading import best_f1, is_exact_match, normalised
from agentgym_rft.envs.search_qa.questions import question, questions
from agentgym_rft.envs.search_qa.relations import RELATIONS, question_text, read_fact, read_question
from agentgym_rft.envs.search_qa.world import REGION_SIZES, chains, make_world
from agentgym_rft.errors import ConfigError, EnvError

THREE_HOPS = next(task_id for task_id, asked in questions("test").items() if asked.num_hops == 3)


def play(env, task_id, player_of):
    observation, info = env.reset(seed=0, options={"task_id": task_id})
    player = player_of(observation)
    num_steps, terminated, truncated = 0, False, False
    while not (terminated or truncated):
        observation, _, terminated, truncated, info = env.step(player.act(observation))
        num_steps += 1
    return info, num_steps


def test_the_world_has_400_documents_of_two_to_five_sentences_with_distinct_titles():
    entities = make_world().entities.values()
    assert len(entities) == sum(sum(sizes.values()) for sizes in REGION_SIZES.values()) == 400
    assert len({entity.name for entity in entities}) == 400
    assert {entity.text.count(".") for entity in entities} <= {2, 3, 4, 5}


def test_every_fact_is_written_in_its_document_and_read_back():
    world = make_world()
    num_facts = 0
    for entity in world.entities.values():
        for relation, value in entity.facts.items():
            assert RELATIONS[relation].subject == entity.kind
            assert read_fact(relation, entity.text) == world.name(value)
            num_facts += 1
    assert num_facts > 1000


def test_a_title_finds_its_document_first():
    for row, entity in enumerate(make_world().entities.values()):
        assert index().top(entity.name, 1) == (row,)


def test_no_fact_leads_from_one_region_to_the_other():
    entities = make_world().entities
    for entity in entities.values():
        linked = [entities[value].region for value in entity.facts.values() if value in entities]
        assert set(linked) <= {entity.region}


def test_chains_visit_nothing_twice():
    world = make_world()
    for entity in list(world.entities.values())[:100]:
        for relations in chains(world, entity, 3):
            path = [entity.id]
            for relation in relations:
                path.append(world.entities[path[-1]].facts[relation])
            assert len(set(path)) == 4


def test_train_and_test_share_no_question_and_no_document_on_the_way():
    titles = {split: {title for asked in questions(split).values() for title in asked.path} for split in REGION_SIZES}
    assert titles["train"].isdisjoint(titles["test"])
    texts = [asked.text for split in REGION_SIZES for asked in questions(split).values()]
    assert len(set(texts)) == len(texts) == 1440
    for split, number in (("train", 400), ("test", 80)):
        assert Counter(asked.num_hops for asked in questions(split).values()) == {1: number, 2: number, 3: number}
    assert [asked.num_hops for asked in list(questions("test").values())[:6]] == [1, 2, 3, 1, 2, 3]


def test_questions_are_written_and_read_back():
    text = question_text("Ada Aldane", ("birthplace", "mayor"))
    assert text == "Who is the mayor of the birthplace of Ada Aldane?"
    assert read_question(text) == ("Ada Aldane", ("birthplace", "mayor"))
    assert question_text("Ardova", ("source", "height")) == (
        "What is the height in metres of the mountain at the source of Ardova?"
    )
    assert read_question("What time is it?") is None
    assert read_question("What is Ardova?") is None


def test_grading_worked_by_hand():
    assert normalised("  The  Silent-Orchard, a tale. ") == "silentorchard tale"
    assert is_exact_match("the silent orchard!", ["The Silent Orchard"])
    assert not is_exact_match("Silent", ["The Silent Orchard"])
    assert best_f1("Mount Ashkar", ["Mount Ashkar", "Ashkar"]) == 1.0
    # One of two given words is right, and it is one of the two to be given: precision and recall are 1/2.
    assert best_f1("Ada Ironwell", ["Ada Aldane"]) == pytest.approx(0.5)
    # precision 1/3, recall 1/1: 2 * 1 / (3 + 1)
    assert best_f1("it is Ardova", ["Ardova"]) == pytest.approx(0.5)
    assert best_f1("", ["Ardova"]) == 0.0
    assert best_f1("the", ["Ardova"]) == 0.0


def test_a_scripted_win():
    env = SearchQAEnv()
    asked = question(THREE_HOPS)
    observation, info = env.reset(options={"task_id": THREE_HOPS})
    assert observation.endswith(f"Question: {asked.text}")
    assert (info["task_type"], info["goal"], info["won"], info["score"]) == ("3-hop", asked.text, False, 0.0)
    keys = [info["state_key"]]
    for title in asked.path:
        observation, reward, terminated, _, info = env.step(f"Search[ {title.upper()} ]")
        assert observation.startswith(f"[1] {title}\n")
        assert observation.count("\n[") == 2
        assert (reward, terminated, info["score"], info["invalid_action"]) == (0.0, False, 0.0, False)
        keys.append(info["state_key"])
    assert len(set(keys)) == 4
    observation, reward, terminated, truncated, info = env.step(f"answer[{asked.answers[0].lower()}.]")
    assert (observation, reward, terminated, truncated) == ("The answer is right.", 1.0, True, False)
    assert (info["won"], info["score"]) == (True, 1.0)


def test_a_wrong_answer_ends_with_its_f1_as_score_and_no_reward():
    task_id = next(id for id, asked in questions("test").items() if asked.text.startswith("Who"))
    env = SearchQAEnv()
    env.reset(options={"task_id": task_id})
    surname = question(task_id).answers[0].split()[1]
    observation, reward, terminated, _, info = env.step(f"answer[{surname}]")
    assert (observation, reward, terminated, info["won"]) == ("The answer is wrong.", 0.0, True, False)
    assert info["score"] == pytest.approx(2 / 3)
    with pytest.raises(EnvError, match="reset"):
        env.step("search[x]")


@pytest.mark.parametrize("action", ["look", "search", "search[a", "answer[]", "answer[ ]", "search[]", "find[x]", ""])
def test_what_is_no_action_is_told_and_changes_nothing(action):
    env = SearchQAEnv()
    _, before = env.reset(seed=0)
    _, reward, terminated, _, info = env.step(action)
    assert (reward, terminated, info["invalid_action"]) == (0.0, False, True)
    assert info["state_key"] == before["state_key"]


def test_a_search_that_finds_nothing_is_answered():
    env = SearchQAEnv()
    env.reset(seed=0)
    for words in ("qqqq", "the of and", "\ud800", "]" * 5000):
        observation, _, _, _, info = env.step(f"search[{words}]")
        assert observation == "No document has any of these words."
        assert info["invalid_action"] is False


def test_a_search_shows_as_many_documents_as_asked():
    env = SearchQAEnv(num_shown=2)
    env.reset(seed=0)
    assert env.step("search[town]")[0].count("is a town") == 2
    with pytest.raises(ConfigError, match="num_shown"):
        SearchQAEnv(num_shown=0)


def test_the_oracle_and_the_reading_expert_answer_every_test_question():
    env, rng = SearchQAEnv(), np.random.default_rng(0)
    for task_id in env.task_ids("test"):
        hops = question(task_id).num_hops
        info, num_steps = play(env, task_id, lambda _: env.oracle())
        assert (info["won"], num_steps) == (True, hops + 1)
        info, num_steps = play(env, task_id, lambda observation: env.expert(observation, rng))
        assert info["won"]
        assert num_steps <= hops + 1


def test_the_oracle_goes_on_from_where_it_is():
    env = SearchQAEnv()
    observation, _ = env.reset(options={"task_id": THREE_HOPS})
    observation = env.step(env.oracle().act(observation))[0]
    player, actions = env.oracle(), []
    while not actions or actions[-1].startswith("search"):
        actions.append(player.act(observation))
        observation = env.step(actions[-1])[0]
    assert len(actions) <= 3
    assert observation == "The answer is right."


def test_the_noisy_expert_searches_beside_the_point_and_still_answers():
    env, rng = SearchQAEnv(max_steps=30), np.random.default_rng(0)
    tasks = [task_id for task_id in env.task_ids("train")[:60] if question(task_id).num_hops == 3]
    results = [play(env, task_id, lambda observation: env.expert(observation, rng, 0.5)) for task_id in tasks]
    assert all(info["won"] for info, _ in results)
    assert sum(num_steps for _, num_steps in results) > 4 * len(tasks)


def test_the_expert_needs_the_first_observation():
    with pytest.raises(EnvError, match="question"):
        SearchQAEnv().expert("[1] Ardova", np.random.default_rng(0))
    with pytest.raises(EnvError, match="reset"):
        SearchQAEnv().oracle()
