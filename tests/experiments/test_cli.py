"""The command line, called in this process: `recommend` has no config groups, so a stand-in for its function shows what any verb gets."""

import logging
import pkgutil
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate

from seasonrec.errors import ConfigError, DataError
from seasonrec.experiments import cli

GIVEN = ["run=outputs/a", "users=1", "date=2026-12-20"]


@pytest.fixture(autouse=True)
def process(monkeypatch, tmp_path):
    """An empty working folder; what a command does to the process is undone."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    yield
    root.handlers, root.level = handlers, level


class StandIn:
    """What runs in the place of `recommend`: keeps the configs it is called with."""

    def __init__(self):
        self.configs, self.job = [], lambda cfg: None

    def __call__(self, cfg):
        self.configs.append(cfg)
        return self.job(cfg)


@pytest.fixture
def recommend(monkeypatch) -> StandIn:
    module = ModuleType("seasonrec.experiments.recommend")
    module.recommend = StandIn()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.recommend


def raises(error):
    """A job that fails."""

    def job(cfg):
        raise error

    return job


def failure(capsys, *argv):
    """What the command says on stderr when it ends with status 2."""
    with pytest.raises(SystemExit) as end:
        cli.main(argv)
    assert end.value.code == 2
    return capsys.readouterr().err


def test_help_without_a_verb_names_every_verb(capsys):
    cli.main([])
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()[4:8]] == ["train", "evaluate", "recommend", "report"]


def test_the_version_is_the_packages_own(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out.startswith("seasonrec 0.")


def test_a_verb_gets_its_config_with_the_overrides(recommend):
    cli.main(["recommend", *GIVEN, "k=5"])
    (cfg,) = recommend.configs
    assert (cfg.run, cfg.users, cfg.date, cfg.k) == ("outputs/a", "1", "2026-12-20", 5)


def test_a_verb_may_be_written_with_an_underscore(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["check_data", "--help"])
    assert end.value.code == 0
    assert "seasonrec check-data FILE" in capsys.readouterr().out


def test_recommending_leaves_nothing_behind_in_the_folder(recommend, tmp_path):
    cli.main(["recommend", *GIVEN])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_its_function(verb):
    assert callable(pkgutil.resolve_name(cli.VERBS[verb].function))


def test_messages_of_a_job_are_plain_and_leave_stdout_to_results(recommend, capsys):
    def talks(cfg):
        logging.getLogger("seasonrec.experiments.recommend").info("3 users")
        logging.getLogger("some.other.package").info("noise")
        print("result")

    recommend.job = talks
    cli.main(["recommend", *GIVEN])
    assert capsys.readouterr() == ("result\n", "3 users\n")


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_help_of_a_verb_says_what_it_does_and_has_three_examples(capsys, verb):
    with pytest.raises(SystemExit) as end:
        cli.main([verb, "--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0
    assert said.startswith(f"seasonrec {verb}")
    examples = said.partition("Examples:\n")[2].strip().splitlines()
    assert [line.split()[:2] for line in examples] == [["seasonrec", verb]] * 3


def test_help_shows_the_choices_of_each_group(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    said = capsys.readouterr().out
    assert "logger: csv, many, mlflow, none, tensorboard, wandb\n" in said
    assert "trainer: auto, cpu, ddp, ddp_sim, fsdp, fsdp_sim, gpu\n" in said
    assert "sweep/pruner: asha, hyperband, median, none\n" in said


@pytest.mark.parametrize(("verb", "groups"), [("recommend", []), ("report", ["paths"]), ("reproduce", ["paths", "reproduce"])])
def test_help_shows_no_groups_of_other_verbs(capsys, verb, groups):
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    said = capsys.readouterr().out
    shown = said.partition("Config groups (group=choice):\n\n")[2].partition("\n\n")[0].splitlines()
    assert [line.partition(": ")[0] for line in shown] == groups
    assert "Config (key=value" in said


def test_the_config_of_a_job_is_shown_and_not_run(recommend, capsys):
    cli.main(["recommend", "--cfg", "job", "k=3"])
    assert "k: 3\n" in capsys.readouterr().out
    assert recommend.configs == []


def test_several_values_of_a_key_run_once_for_each(recommend):
    cli.main(["recommend", *GIVEN, "k=1,2", "new_only=true,false"])
    assert [(cfg.k, cfg.new_only) for cfg in recommend.configs] == [(1, True), (1, False), (2, True), (2, False)]


@pytest.mark.parametrize(
    ("words", "several"),
    [
        (["seed=1,2,3"], True),
        (["head/content=default,none"], True),
        (["k=range(1,4)"], True),
        (["seed=1"], False),
        (["users=[1,2]"], False),
        (["name='a,b'"], False),
        (["--config-dir", "a,b=1,2", "seed=1"], False),
        (["seed=1,2", "--help"], False),
    ],
)
def test_a_sweep_is_recognised_without_a_flag(words, several):
    assert cli.rewrite("train", words) == words + ["--multirun"] * several


def test_a_sweep_that_has_its_flag_gets_no_second_one():
    assert cli.rewrite("train", ["-m", "seed=1,2"]) == ["-m", "seed=1,2"]


def test_where_configs_lie_may_be_said_anywhere():
    # Hydra's parser refuses overrides after a flag that stands among others.
    given = ["seed=1", "--config-dir", "mine", "mixer=own", "-cn", "root", "--cfg", "job"]
    assert cli.rewrite("train", given) == ["--config-dir", "mine", "-cn", "root", "seed=1", "mixer=own", "--cfg", "job"]


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("train", "interrupted; `seasonrec train resume=<folder of the run>` goes on with a training\n"),
        ("ablate", "interrupted; the same command goes on\n"),
        ("recommend", "interrupted\n"),
    ],
)
def test_ctrl_c_ends_with_what_to_do_and_the_status_of_shells(capsys, verb, said):
    with pytest.raises(SystemExit) as end, cli.plain_errors(verb):
        raise KeyboardInterrupt
    assert end.value.code == 130
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(("verb", "learnt"), [("train", ", and reads back what had been learnt"), ("evaluate", "")])
def test_an_interrupted_multirun_goes_on_in_its_folder(monkeypatch, tmp_path, capsys, verb, learnt):
    def interrupted(cfg):
        raise KeyboardInterrupt

    stand_in = StandIn()
    stand_in.job = interrupted
    monkeypatch.setattr(f"seasonrec.experiments.{verb}.{verb}", stand_in)
    with pytest.raises(SystemExit):
        cli.main([verb, "seed=0,1", f"hydra.sweep.dir={tmp_path}"])
    assert capsys.readouterr().err == f"interrupted; the same command with hydra.sweep.dir={tmp_path} goes on{learnt}\n"


def test_an_interrupted_run_is_named(monkeypatch, tmp_path, capsys):
    def interrupted(cfg):
        Path(cfg.paths.run, "run.json").touch()
        raise KeyboardInterrupt

    stand_in = StandIn()
    stand_in.job = interrupted
    monkeypatch.setattr("seasonrec.experiments.train.train", stand_in)
    with pytest.raises(SystemExit):
        cli.main(["train", "paths.run=mine"])
    assert capsys.readouterr().err == f"interrupted; `seasonrec train resume={tmp_path / 'mine'}` goes on with a training\n"


@pytest.mark.parametrize(
    ("given", "rewritten"),
    [
        (["my file.csv"], ["data=table", "data.path='my file.csv'"]),
        (["a.csv", "data.columns.user=who"], ["data=table", "data.path='a.csv'", "data.columns.user=who"]),
        (["a.parquet", "data=online_retail_ii"], ["data.path='a.parquet'", "data=online_retail_ii"]),
        (["data.columns.user=who", "a.csv", "--cfg", "job"], ["data=table", "data.path='a.csv'", "data.columns.user=who", "--cfg", "job"]),
        (["--config-dir", "conf", "a.csv"], ["--config-dir", "conf", "data=table", "data.path='a.csv'"]),
        (["it's.csv"], ["data=table", r"data.path='it\'s.csv'"]),
        (["[a].csv"], ["data=table", "data.path='[a].csv'"]),
        (["data=table", "data.path=a.csv"], ["data=table", "data.path=a.csv"]),
        (["--cfg", "job"], ["--cfg", "job"]),
        ([], []),
    ],
)
def test_check_data_takes_a_bare_file_name(given, rewritten):
    assert cli.rewrite("check-data", given) == rewritten


def test_seeds_of_a_reproduction_are_those_of_its_runs():
    assert cli.rewrite("reproduce", ["x", "seed=1,2"]) == ["reproduce=x", "reproduce.seeds=[1,2]"]


def test_folders_of_configs_come_first_however_they_are_given():
    assert cli.rewrite("train", ["seed=1", "--config-dir=my", "name=a"]) == ["--config-dir=my", "seed=1", "name=a"]


def test_every_job_of_several_that_fails_is_named(command, words, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command("train", *words, "stage=neither,nor", f"paths.multirun={tmp_path}")
    said = capsys.readouterr().err
    assert "error in job 0: stage is 'neither', wanted" in said
    assert "error in job 1: stage is 'nor', wanted" in said


@pytest.mark.parametrize(
    ("verb", "given", "value"),
    [
        ("check-data", "C:\\data\\", "C:\\data\\"),
        ("recommend", "users=C:\\ids\\", "C:\\ids\\"),
        ("reproduce", r"data.path='it\'s.csv'", [r"data.path='it\'s.csv'"]),
    ],
)
def test_backslashes_and_quotes_reach_hydra_as_they_were_given(verb, given, value):
    *_, last = OverridesParser.create().parse_overrides(cli.rewrite(verb, [given]))
    assert last.value() == value


@pytest.mark.parametrize(("given", "ids"), [("1,7,12", "1,7,12"), ("007", "007"), ("1e5", "1e5"), ("vip.txt", "vip.txt"), ("'a b'", "a b")])
def test_ids_of_users_stay_text(recommend, given, ids):
    cli.main(["recommend", "run=a", "date=2026-12-20", f"users={given}"])
    (cfg,) = recommend.configs
    assert cfg.users == ids


def test_a_list_of_users_stays_a_list(recommend):
    cli.main(["recommend", "run=a", "date=2026-12-20", "users=[1,x]"])
    assert recommend.configs[0].users == [1, "x"]


def test_a_resumed_run_goes_on_in_its_own_folder(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.json").touch()
    (tmp_path / "runs").mkdir()
    assert cli.rewrite("train", ["resume=old"]) == ["resume=old", "hydra.run.dir=old"]
    assert cli.rewrite("train", ["resume=null"]) == ["resume=null"]
    for other in ("gone", "runs"):  # no folder, and one that holds no run
        with pytest.raises(ConfigError, match=f"there is no run in {other}"):
            cli.rewrite("train", [f"resume={other}"])


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_a_run_can_be_told_its_folder_by_the_key_that_holds_it(verb):
    assert cli.rewrite(verb, ["seed=1", "paths.run=mine"]) == ["seed=1", "hydra.run.dir=mine"]
    assert cli.rewrite(verb, ["paths.run=null"]) == ["paths.run=null"]


def test_a_resumed_run_that_names_another_folder_keeps_that_word_for_the_error(tmp_path):
    (tmp_path / "run.json").touch()
    assert cli.rewrite("train", ["resume=.", "paths.run=mine"]) == ["resume=.", "paths.run=mine", "hydra.run.dir=."]


def test_an_error_of_ours_is_one_line_and_status_two(recommend, capsys):
    recommend.job = raises(DataError("a.csv: no rows"))
    assert failure(capsys, "recommend", *GIVEN) == "error: a.csv: no rows\n"


def test_an_error_of_ours_inside_a_constructor_call_is_told_as_it_is(recommend, capsys):
    recommend.job = lambda cfg: instantiate({"_target_": "seasonrec.data.dataset.Split", "validation": [5, 3], "test": [1, 2]})
    assert failure(capsys, "recommend", *GIVEN).startswith("error: split: validation weeks [5, 3] and test weeks [1, 2], wanted")


def test_the_traceback_comes_on_request(recommend, monkeypatch):
    recommend.job = raises(DataError("a.csv: no rows"))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(DataError, match="no rows"):
        cli.main(["recommend", *GIVEN])


def test_a_fault_of_the_programs_own_keeps_its_traceback(recommend):
    recommend.job = lambda cfg: 1 / 0
    with pytest.raises(ZeroDivisionError):
        cli.main(["recommend", *GIVEN])


def test_a_sweep_goes_on_after_a_job_that_failed(recommend, capsys):
    def odd_only(cfg):
        if cfg.k == 2:
            raise DataError("k is even")

    recommend.job = odd_only
    said = failure(capsys, "recommend", *GIVEN, "k=1,2,3")
    assert said.endswith("error: k is even\n")
    assert "k=2" in said
    assert [cfg.k for cfg in recommend.configs] == [1, 2, 3]


def test_missing_values_are_named_with_how_to_give_them(recommend, capsys):
    said = failure(capsys, "recommend", "users=1")
    assert "date, run: no value given; add date=... run=... to the command line" in said


def test_an_unknown_key_says_the_nearest_known_one(recommend, capsys):
    assert failure(capsys, "recommend", *GIVEN, "new_onyl=true") == ("error: new_onyl: there is no such key; did you mean 'new_only'?\n")


def test_an_unknown_choice_says_the_nearest_one(capsys):
    assert "logger has no choice 'tensorbord'; did you mean 'tensorboard'?" in failure(capsys, "train", "logger=tensorbord")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("mixer=null", "mixer=null: mixer has no choice null; known are gated, paired, weighted"),
        ("mixer=gated,null", "mixer=gated,null: mixer has no choice null; known are gated, paired, weighted"),
        ("mixer=2024", "mixer=2024: the choices of mixer have names; one that looks like 2024 needs quotes"),
    ],
)
def test_a_choice_that_is_no_name_is_an_error(capsys, word, said):
    assert failure(capsys, "train", word) == f"error: {said}\n"


@pytest.mark.parametrize(
    "words", [["trainer={max_epochs: 3}"], ["mixer='2024'"], ["hydra/launcher=null"], ["~mixer"], ["data=[a,b]"], ["seed=3"]]
)
def test_what_is_no_choice_of_ours_is_left_to_hydra(words):
    assert cli.rewrite("train", words) == words


def test_what_shows_a_config_takes_no_sweep(capsys):
    said = failure(capsys, "train", "seed=0,1", "mixer=gated", "--cfg", "job")
    assert said == "error: seed=0,1: --cfg shows a single run; give seed one value\n"


def test_a_file_of_a_head_group_without_its_first_line_is_told_so(capsys, tmp_path):
    (tmp_path / "head/cf").mkdir(parents=True)
    (tmp_path / "head/cf/mine.yaml").write_text("{_target_: my_heads.Mine, _partial_: true}")
    said = failure(capsys, "train", "head/cf=mine", "--config-dir", str(tmp_path))
    where = "keys of a head are model.heads.cf, and a file of group head/cf begins with the line # @package model.heads.cf"
    assert said == f"error: head.cf: {where}\n"


def test_an_unknown_group_says_the_nearest_one(capsys):
    assert "did you mean 'head/seasonal'" in failure(capsys, "train", "head/seasonl=default")


def test_an_unknown_experiment_is_an_error(capsys):
    assert "no_such_thing" in failure(capsys, "train", "experiment=no_such_thing")


def test_an_unknown_verb_says_the_nearest_one(capsys):
    assert failure(capsys, "trian") == "error: there is no verb 'trian'; did you mean 'train'?\n"


def test_an_override_that_cannot_be_read_is_an_error(recommend, capsys):
    assert failure(capsys, "recommend", *GIVEN, "k=[1").startswith("error: ")


def test_config_dir_adds_a_users_own_files(recommend, tmp_path):
    (tmp_path / "mine" / "shop").mkdir(parents=True)
    (tmp_path / "mine" / "shop" / "corner.yaml").write_text("# @package _global_\nk: 7\n")
    cli.main(["recommend", "--config-dir", "mine", *GIVEN, "+shop=corner"])
    assert recommend.configs[0].k == 7


def test_a_module_in_the_working_folder_can_be_named(recommend, tmp_path):
    (tmp_path / "my_seasonrec_heads.py").write_text("class Head: ...\n")

    def imports(cfg):
        import my_seasonrec_heads

        assert my_seasonrec_heads.Head

    recommend.job = imports
    cli.main(["recommend", *GIVEN])
    assert len(recommend.configs) == 1


def test_the_command_line_of_the_process_is_what_lightning_would_start_again(recommend, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/bin/seasonrec", "recommend", *GIVEN])
    seen = []
    recommend.job = lambda cfg: seen.append(list(sys.argv))
    cli.main()
    assert seen == [["/bin/seasonrec", "recommend", *GIVEN]]


def test_scripts_call_the_verb_of_their_name():
    scripts = Path(__file__).parents[2] / "scripts"
    assert sorted(path.stem for path in scripts.glob("*.py")) == sorted(verb.replace("-", "_") for verb in cli.VERBS)
    for path in scripts.glob("*.py"):
        assert f'main(["{path.stem.replace("_", "-")}", *sys.argv[1:]])' in path.read_text()


def test_two_commands_of_one_second_have_folders_of_their_own(monkeypatch, tmp_path):
    stand_in = StandIn()
    monkeypatch.setattr("seasonrec.experiments.evaluate.evaluate", stand_in)
    for _ in range(3):
        cli.main(["evaluate", "hydra.run.dir='${unused:some/where}'"])
    assert [Path(cfg.paths.run).relative_to(tmp_path).as_posix() for cfg in stand_in.configs] == [
        "some/where",
        "some/where_2",
        "some/where_3",
    ]
    stand_in.job = lambda cfg: named.append(HydraConfig.get().run.dir)  # by which Lightning tells it to processes that it starts
    named = []
    cli.main(["evaluate", "name=mine"])
    (made,) = (tmp_path / "outputs/mine").iterdir()
    assert Path(stand_in.configs[-1].paths.run) == made
    assert [Path(name).absolute() for name in named] == [made]


@pytest.mark.parametrize("words", [["ablation.folder=there"], ["--help"]])
def test_an_ablation_leaves_no_empty_folder_where_a_training_would_have_its_own(monkeypatch, tmp_path, words):
    monkeypatch.setattr("seasonrec.experiments.ablate.ablate", StandIn())
    with suppress(SystemExit):  # the help has one of its own
        cli.main(["ablate", *words])
    assert not list(tmp_path.glob("outputs/train/*"))
