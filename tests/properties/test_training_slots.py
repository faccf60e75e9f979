"""GPUs are shared out to trainings: never two jobs on one, never one idle while a job waits that it would serve."""

import asyncio

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.testing.clock import run_virtual
from apprentice_actors.ports import TrainedVersion, TrainingFailure, TrainingJob
from apprentice_actors.supervision import Supervisor
from apprentice_actors.trainer import Train, TrainerDesk, slots

JOB = TrainingJob(
    job="j",
    task="t",
    version="t@v1",
    parent=None,
    parent_folder=None,
    folder="",
    train_file="",
    calibration_file="",
    output_schema=None,
    match_fields=(),
    seed=0,
)


class Watching:
    """A trainer that notes who has which GPU. Implements :class:`apprentice_actors.ports.Trainer`."""

    def __init__(self, clock, plans):
        self.clock = clock
        self.plans = plans
        self.busy = []
        self.most = 0
        self.order = []
        self.collisions = []

    async def train(self, job, progress):
        number = int(job.job)
        seconds, ending = self.plans[number]
        taken = {gpu for devices in self.busy for gpu in devices}
        if taken & set(job.devices) or (self.busy and not job.devices):
            self.collisions.append((job.devices, tuple(self.busy)))
        self.busy.append(job.devices)
        self.most = max(self.most, len(self.busy))
        self.order.append(number)
        try:
            await self.clock.sleep(seconds)
        finally:
            self.busy.remove(job.devices)
        if ending == "failure":
            raise TrainingFailure("as planned")
        if ending == "defect":
            raise ValueError("as planned")
        return TrainedVersion(manifest_sha256=job.job, seconds=seconds)

    async def aclose(self):
        pass


@st.composite
def machines(draw):
    gpus = draw(st.lists(st.integers(0, 15), unique=True, max_size=8))
    per_job = draw(st.none() | st.integers(1, max(1, len(gpus))))
    return tuple(gpus), per_job


plans = st.lists(
    st.tuples(
        st.floats(0.0, 5.0),
        st.floats(0.1, 10.0),
        st.sampled_from(["version", "version", "failure", "defect"]),
        st.none() | st.floats(0.0, 12.0),
    ),
    min_size=1,
    max_size=12,
)
"""Per job: when it is asked for, how long it takes, how it ends, how long its asker waits (None: to the end)."""


@settings(max_examples=60, deadline=None)
@given(machine=machines(), jobs=plans)
def test_no_two_jobs_share_a_gpu_and_all_are_answered(machine, jobs):
    shared_out = slots(*machine)
    ways = []

    async def program(clock):
        trainer = Watching(clock, {number: (job[1], job[2]) for number, job in enumerate(jobs)})
        async with Supervisor(clock) as scope:
            desk = scope.start("trainer", lambda ref: TrainerDesk(ref, trainer=trainer, slots=shared_out))

            async def ask(number, begin, patience):
                await clock.sleep(begin)
                job = msgspec.structs.replace(JOB, job=str(number))
                try:
                    made = await desk.ask(
                        lambda reply: Train(job=job, progress=lambda *_: None, reply=reply), patience or 1e6
                    )
                except TrainingFailure as failure:
                    ways.append((number, "defect" if "ValueError" in str(failure) else "failure"))
                except TimeoutError:
                    ways.append((number, "gone"))
                else:
                    assert made.manifest_sha256 == str(number)
                    ways.append((number, "version"))

            async with asyncio.TaskGroup() as group:
                for number, (begin, _, _, patience) in enumerate(jobs):
                    group.create_task(ask(number, begin, patience))
            waited = sum(job[1] for job in jobs)
            await clock.sleep(waited + 1.0)
            assert trainer.collisions == []
            assert trainer.busy == []
            assert trainer.most <= len(shared_out)
        patient = {number for number, job in enumerate(jobs) if job[3] is None}
        assert {number for number, _ in ways} == set(range(len(jobs)))
        assert all(way == jobs[number][2] for number, way in ways if number in patient)

    run_virtual(program)


@given(machine=machines())
def test_every_gpu_is_in_one_slot_at_most_and_only_a_rest_is_in_none(machine):
    gpus, per_job = machine
    shared_out = slots(gpus, per_job)
    used = [gpu for slot in shared_out for gpu in slot]
    assert len(used) == len(set(used))
    assert set(used) <= set(gpus)
    assert len(gpus) - len(used) < (per_job or len(gpus) or 1)
    assert {len(slot) for slot in shared_out} == ({per_job or len(gpus)} if gpus else {0})


def test_as_many_jobs_run_at_once_as_there_are_slots_in_the_order_of_asking():
    async def program(clock):
        trainer = Watching(clock, dict.fromkeys(range(5), (1.0, "version")))
        async with Supervisor(clock) as scope:
            desk = scope.start("trainer", lambda ref: TrainerDesk(ref, trainer=trainer, slots=slots((4, 5, 6, 7), 2)))

            def train(number):
                job = msgspec.structs.replace(JOB, job=str(number))
                return desk.ask(lambda reply: Train(job=job, progress=lambda *_: None, reply=reply), 60.0)

            await asyncio.gather(*(train(number) for number in range(5)))
            assert (trainer.most, trainer.order, clock.monotonic()) == (2, [0, 1, 2, 3, 4], 3.0)

    run_virtual(program)
