"""A training from its configuration to its last epoch: what happens, in the order in which it happens.

:func:`train_run` is the whole of it; the functions below it stand in the order in which it calls them.
"""

import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Sequence

import numpy
import torch
from torch.utils._pytree import tree_leaves

import utils
from datasets.files import check_output
from datasets.layout import (DATA_SETS, Layout, Sample, check_classes, check_images, check_not_moved, check_splits,
                             list_text, published_picture, read_layout)
from datasets.lists import image_directory
from datasets.loading import DiskCache, Images, bytes_of, chosen_cache, typical_images
from datasets.splits import check_kept_fold, fold_list, pair_lines, training_pairs, with_fold, with_validation
from models.checkpoints import (RUN_FOLDERS, gan_config, gan_file, imagenet_weights, load_gan_networks, save_exemplars,
                                save_gan)
from models.distributed import Processes
from models.networks import VGG, backbone_named
from options.config import Config
from training.facts import Facts, findings, write_options
from training.phases import Draw, GANPhase, PerceptualPhase, RecognizerPhase, all_stages
from training.run_directory import RunDirectory, StateStore
from training.trainer import Run, Stage, TrainingContext, fit
from utils import (UserError, fingerprint, noted_signals, number_of_processes, pick_device, usable_cores,
                   visible_gpus_note)

LOCAL_OPTIONS = ("gpu", "amp", "checkpoint_dir", "data_dir")  # may differ from machine to machine
SAME_COMMAND = "start all processes with the same options, on copies of the same data"
BUSY = 0.75  # the load of other programs, as a share of the cores
LOAD = Path("/proc/loadavg")  # "2.05 1.80 1.61 3/210 4711": of three spans of time, running of all threads, newest
CACHES = ("ram", "disk", "none")  # by falling need of memory
DTYPES = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def train_run(config: Config, directory: RunDirectory, processes: Processes, draw: Draw | None = None,
              data: Layout | None = None, decoded: Images | None = None) -> Run:
    """Train one run, or the rest of it if it is resumed, and return it; ``directory`` stays locked.

    ``draw`` draws the samples of a GAN epoch; ``data`` and ``decoded`` are those of a series, whose images are read
    once.
    """
    # What is there to do, and may this command do it?
    processes.run_on_main(directory.lock_if_used)
    restoring = processes.run_on_main(lambda: should_resume(config, directory))
    check_same_options(config, processes)

    # The data: lists, splits, decoded images.
    layout = split_data(config, data or read_training_data(config, processes.world))
    if restoring:
        check_fold(config, layout)
    else:
        check_gan_run(config, len(layout.expressions))
    if config.run.overwrite and not restoring:
        check_overwrite(config, layout)
        processes.run_on_main(directory.move_aside)
        processes.run_on_each_machine(directory.move_aside)
    samples = layout.train + layout.target_only + selection(layout, config.recognizer.select_on)
    images = decoded.subset(samples) if decoded is not None else decoded_images(
        config, samples, directory, not restoring, processes)

    # The phases with their networks, at the beginning or where the run was stopped.
    run, pairs = build_run(config, layout, images, processes, restoring, draw)
    if config.run.gan_from and not restoring:
        load_other_gan(run, Path(config.run.gan_from))
    processes.run_on_main(lambda: claim_run_directory(directory, config, restoring))
    if restoring:
        restore(run, config)
    check_agreement(run)

    # The training.
    processes.run_on_main(lambda: write_run_files(run, config, pairs))
    with noted_signals() as run.stop_signal:
        fit(run)
    return run


# ----------------------------------------------------------------------------------------- before all runs of a command

def launch(config: Config) -> Processes:
    """Check the output directory, start the processes, and choose device and algorithms; return the processes.

    It is called once for all runs of a command; with ``--jobs`` each run does it in its own process. Raises UserError
    if the results cannot be written, or processes and devices do not fit together.
    """
    number_of_processes()
    for folder in ("", *RUN_FOLDERS):
        check_output(Path(config.run.checkpoint_dir) / folder, "--checkpoint_dir", directory=True)
    if config.series.jobs > 1:
        return Processes()
    start_processes(config.hardware.gpu)
    device = pick_device(config.hardware.gpu)
    torch.backends.cudnn.benchmark = not config.hardware.deterministic  # the fastest algorithms, by trying
    if config.hardware.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    backbone_named(config.recognizer_shape.backbone)
    if device.type == "cpu":
        warn_of_busy_cores()
    processes = Processes.join(device)
    kind = "series of folds or seeds" if config.is_series else "single run"
    processes.check_same({"kind of training": kind}, "give --folds or --seeds to all of them")
    return processes


def warn_of_busy_cores() -> None:
    """Print a warning on Linux if other programs keep the cores busy, which slows several threads down more than one.

    The load of the last minute alone may be that of an earlier command; others must be running now as well.
    """
    load, _, _, running, _ = LOAD.read_text().split() if LOAD.is_file() else ("0", "", "", "1/1", "")
    others, cores = min(float(load), int(running.split("/")[0]) - 1), usable_cores()
    if torch.get_num_threads() > 1 and others > BUSY * cores:
        print(f"warning: other programs keep the cores busy (load {load} on {cores} cores), and threads that wait "
              "for each other are slow there: OMP_NUM_THREADS=1 in front of the command may be several times faster",
              file=sys.stderr)


def start_processes(gpu: list[int] | None) -> None:
    """Replace this process by ``torchrun`` with one process per GPU if ``--gpu`` names several GPUs.

    Return if torchrun has started this process, or there are no GPUs. Raises UserError for unusable GPUs.
    """
    if gpu is None or len(gpu) < 2 or "WORLD_SIZE" in os.environ or not torch.cuda.is_available():
        return
    count, typed = torch.cuda.device_count(), " ".join(map(str, gpu))
    if len(set(gpu)) < len(gpu) or not 0 <= min(gpu) <= max(gpu) < count:
        raise UserError(f"--gpu {typed}: different GPUs are needed, this machine has {count}, numbered from 0"
                        + visible_gpus_note())
    if not torch.distributed.is_nccl_available():  # PyTorch for Windows lacks it
        raise UserError(f"--gpu {typed}: several GPUs need NCCL, which this PyTorch does not have; name one GPU, or "
                        "train the runs of a series side by side with --jobs")
    os.execv(sys.executable, [sys.executable, "-m", "torch.distributed.run", "--standalone",
                              f"--nproc_per_node={len(gpu)}", *sys.argv])


# -------------------------------------------------------------------------------------------------- what there is to do

def should_resume(config: Config, directory: RunDirectory) -> bool:
    """Return whether there is a run to resume. Raises UserError if that contradicts the options."""
    folder, restore, epoch = directory.folder, config.run.restore, config.restored_epoch
    states = StateStore(folder / "state")
    if epoch is not None:
        if not (folder / "model" / f"Enc_iter_{epoch:03d}.pth").is_file():
            raise UserError(f"--restore {epoch}: {folder / 'model'} holds no networks of epoch {epoch} "
                            f"(Enc_iter_{epoch:03d}.pth)")
        if not 1 <= epoch <= config.gan.epochs:
            raise UserError(f"--restore {epoch}: the run has {config.gan.epochs} epochs, raise --epochs")
        return True
    if config.resumes and states.exists():
        return True
    if config.resumes and states.is_lost():
        raise UserError(f"{folder / 'state' / 'manifest.json'}: missing, though there are states; restore it from a "
                        "backup, go on from the networks of an epoch with --restore N, or start anew with --overwrite")
    if restore is not None:
        raise UserError(f"--restore: {folder} holds no training state to resume; start without --restore, or "
                        "name the run's directory with --checkpoint_dir")
    directory.check_free(config.run.overwrite)
    return False


def check_same_options(config: Config, processes: Processes) -> None:
    """Check that all processes have the same options. Raises UserError if they have not."""
    shared = sorted((name, repr(value)) for name, value in config.values().items() if name not in LOCAL_OPTIONS)
    processes.check_same({"options": fingerprint(shared)}, SAME_COMMAND)


# ----------------------------------------------------------------------------------------------------------------- data

def read_training_data(config: Config, world: int) -> Layout:
    """Return the data's lists for a training by ``world`` processes.

    Raises UserError for every fault that would stop the training later.
    """
    batch_size, vgg_batch_size = config.gan.batch_size, config.recognizer.vgg_batch_size
    if min(batch_size, vgg_batch_size // 2) < world:
        raise UserError(f"--batch_size {batch_size} and --vgg_batch_size {vgg_batch_size} are too small for {world} "
                        f"processes: at least {world} and {2 * world}")
    data_set, options = DATA_SETS[config.data.data], config.data
    run = config.run.checkpoint_dir if config.resumes else config.run.gan_from
    metadata = gan_config(Path(run) / "model") if run else {}
    neutral, known = options.neutral or metadata.get("neutral_name"), metadata.get("data_dir") or ""
    root, usual = options.data_dir or data_set.directory, Path(data_set.directory)
    if not options.data_dir and not usual.is_dir() and Path(known).parts[-2:] == usual.parts:
        root = known  # the run knows the directory of --data from elsewhere
    check_not_moved(root, known)
    layout = read_layout(root, options.attributes,
                         known=metadata.get("listed") if options.data_dir else data_set.expressions,
                         need_test=not config.series.folds, neutral=neutral)
    check_output(config.run.checkpoint_dir, "--checkpoint_dir", trees=[layout.root], directory=True)
    check_splits(layout)
    check_images(layout.split("all") + layout.target_only)
    check_images(replace(target, path=path) for target in layout.targets() if (path := published_picture(target)))
    return layout


def split_data(config: Config, layout: Layout) -> Layout:
    """Return the data with a run's test images, those of its fold if it has one, and its validation images.

    Raises UserError if they cannot be split.
    """
    series, select_on = config.series, config.recognizer.select_on
    if series.fold:
        layout = with_fold(layout, series.folds, series.fold, config.run.seed, series.folds_by)
    if not layout.test:
        raise UserError(f"{layout.root}: no test image of these expressions; list some in images_test.list, or train "
                        "with --folds")
    if select_on == "val":
        layout = with_validation(layout, config.validation_seed)
    check_classes(layout, config.recognizer.targets == "any")
    if select_on != "none" and not selection(layout, select_on):
        persons = {sample.subject for sample in layout.train}
        reason = "too few images to cut a validation split from" if None in persons else \
            f"persons are validated on as wholes, and none of its {len(persons)} is small enough for a tenth of them"
        raise UserError(f"{layout.root}: {reason}; list some in images_val.list, "
                        "or use --select_on none")
    return layout


def selection(layout: Layout, select_on: str) -> list[Sample]:
    """Return the samples on which networks in training are evaluated; ``none`` evaluates, but chooses nothing."""
    return layout.test if select_on == "test" else layout.val


def check_fold(config: Config, layout: Layout) -> None:
    """Check that a resumed run has the fold with which it was started. Raises UserError if it has not."""
    if config.series.fold:
        check_kept_fold(layout.test, Path(config.run.checkpoint_dir) / "splits" / fold_list(config.series.fold))


def check_gan_run(config: Config, num_classes: int) -> None:
    """Check that the run of ``--gan_from`` has what a new run takes from it. Raises UserError if it has not.

    That is its GAN, and its perceptual network if the recognizer starts from it and ``--checkpoint_dir`` has none.
    """
    source, name = config.run.gan_from, f"VGG_loss/{num_classes}_max_ckpt.t7"
    if not source:
        return
    file = gan_file(Path(source) / "model", "Enc", None)
    if not file.is_file():
        raise UserError(f"--gan_from {source}: holds no GAN for {config.run.checkpoint_dir} ({file} is not there); "
                        "train it first, or name another run")
    folders = Path(source), Path(config.run.checkpoint_dir)
    if config.perceptual.vgg_init == "stage0" and not config.perceptual.perceptual \
            and not any((folder / name).is_file() for folder in folders):
        raise UserError(f"--vgg_init stage0: the run of --gan_from {source} has no perceptual network ({name}); use "
                        "imagenet, none or a file")


def check_overwrite(config: Config, layout: Layout) -> None:
    """Check that ``--overwrite`` moves no input of the new run aside. Raises UserError if it does."""
    folder, perceptual = Path(config.run.checkpoint_dir).resolve(), config.perceptual
    for flag, path in (("data_dir", layout.root), ("gan_from", config.run.gan_from),
                       ("perceptual", perceptual.perceptual), ("vgg_init", perceptual.vgg_init)):
        if path and Path(path).exists() and Path(path).resolve().is_relative_to(folder):
            raise UserError(f"--overwrite: --{flag} {path} lies in {folder}, which would be moved aside; copy it to "
                            "another place, or choose another --checkpoint_dir")


def decoded_images(config: Config, samples: Sequence[Sample], directory: RunDirectory, anew: bool, processes: Processes
                   ) -> Images:
    """Return the images of samples, decoded once if ``--cache`` asks for it.

    With ``--cache disk`` the main process claims the directory and writes a file there while the others wait. A file
    of an earlier start is used again unless ``anew``. Raises UserError if there is no room.
    """
    size, folder = config.shape.image_size, directory.folder / "cache"
    choice = CACHES.index(chosen_cache(config.loading.cache, bytes_of(samples, size), folder))
    choice = CACHES[int(processes.max(torch.tensor(choice, device=processes.device)))]  # the thriftiest of all choices
    if choice != "disk":
        return Images(samples, size, choice)
    store = DiskCache(folder, samples, size)

    def write() -> None:
        directory.claim()
        if anew or not store.is_complete():
            store.write()

    processes.run_on_main(write)
    if not processes.any(not store.is_complete()):
        return Images(samples, size, "none", store)
    if config.loading.cache == "auto":  # a machine does not see the main process's files
        return Images(samples, size, "none")
    raise UserError(f"{store.path}: not there; several machines need a --checkpoint_dir that all of them see, or "
                    "--cache none")


# ------------------------------------------------------------------------------------------------------------- building

def build_run(config: Config, layout: Layout, images: Images, processes: Processes, restoring: bool,
              draw: Draw | None) -> tuple[Run, numpy.ndarray]:
    """Return a run at its beginning, and the pairs (P, 2) of images whose swaps its recognizer is trained on.

    Raises UserError for fp16 on the CPU.
    """
    select_on, device = config.recognizer.select_on, processes.device
    if config.hardware.amp == "fp16" and device.type == "cpu":
        raise UserError("--amp fp16 needs a GPU; on the CPU there is bf16")
    content = images.content_digest()
    pairs = training_pairs(layout, config.run.seed, config.recognizer.pairs_per_image,
                           config.recognizer.targets == "any")
    if config.perceptual.vgg_init == "imagenet" and not restoring and processes.world > 1:
        urls = {VGG.weights, backbone_named(config.recognizer_shape.backbone).weights}
        processes.run_on_each_machine(  # the other processes then find them in torch's cache; None can be sent
            lambda: [imagenet_weights(url) for url in urls] and None)
    names = layout.expressions
    metadata = {  # with which a checkpoint's weights can be used alone
        "expressions": list(names), "listed": list(layout.listed),
        "neutral_name": dict(enumerate(names)).get(layout.neutral), "image_size": config.shape.image_size,
        "backbone": config.recognizer_shape.backbone, "gan": vars(config.gan_shape(len(names))).copy(),
        **Facts.of_training(config, layout, images).metadata()}
    images = images.on(device)
    context = TrainingContext(
        folder=Path(config.run.checkpoint_dir), seed=config.run.seed, layout=layout,
        images=images.subset(layout.train + layout.target_only),
        selection_images=images.subset(selection(layout, select_on)), select_on=select_on,
        balanced=config.recognizer.balanced, num_workers=config.loading.num_workers, device=device,
        amp=DTYPES[config.hardware.amp], processes=processes,
        restoring=restoring, force=config.run.force, metadata=metadata)
    vgg_init, rounds = config.perceptual.vgg_init, config.gan.epochs // config.recognizer.round_every
    perceptual = PerceptualPhase(context, config.perceptual, config.recognizer_shape, config.recognizer.vgg_batch_size,
                                 is_needed=config.trains_gan and config.gan_recipe.lambda_vgg_loss > 0
                                 or vgg_init == "stage0")
    gan = GANPhase(context, config.gan_shape(context.num_classes), config.gan_recipe, config.gan, perceptual, draw)
    if not (config.trains_gan or config.run.gan_from):
        gan.gan.clear_encoder()
    recognizer = RecognizerPhase(context, config.recognizer, config.recognizer_recipe, config.recognizer_shape, gan.gan,
                                 rounds, vgg_init, perceptual.file, pairs)
    run = Run(context, config, [perceptual, gan, recognizer], lambda: schedule_of(config, perceptual.epochs),
              list_fingerprint(layout, select_on, pairs), content)
    return run, pairs


def schedule_of(config: Config, perceptual_epochs: int) -> list[Stage]:
    """Return all stages of a run in order; if it trains no GAN, those of the recognizer, and stage 0 for its start."""
    stages = all_stages(perceptual_epochs, config.gan.epochs, config.recognizer.round_every,
                        config.recognizer.round_epochs)
    omitted = () if config.trains_gan else ("gan", "perceptual") if config.run.gan_from else ("gan",)
    return [stage for stage in stages if stage.phase not in omitted]


def list_fingerprint(layout: Layout, select_on: str, pairs: numpy.ndarray) -> str:
    """Return a SHA-256 of all values of the lists that a training depends on."""
    splits = ["train", "val", "target_only", *(["test"] if select_on == "test" else [])]
    rows = ([split, s.name, s.label, s.subject, s.scene] for split in splits for s in getattr(layout, split))
    neutral = len(layout.expressions) - 1 if layout.neutral is None else layout.neutral
    return utils.fingerprint([neutral, rows, (pair.tolist() for pair in pairs)])


def load_other_gan(run: Run, source: Path) -> None:
    """Load the GAN of the run in ``source`` (``--gan_from``).

    Raises UserError if it has another shape or other expressions, and if it was trained on other images, unless
    ``--force`` allows that.
    """
    gan, theirs, ours = run.phases["gan"].gan, gan_config(source / "model"), run.context.metadata
    for key, label in (("expressions", "expressions"), ("gan", "sizes")):
        if theirs.get(key) != ours[key]:
            raise UserError(f"--gan_from: {source / 'model'} holds a GAN with other {label} ({theirs.get(key)}) than "
                            f"{ours[key]}")
    if not Facts.of_metadata(ours).has_images_of(Facts.of_metadata(theirs), "train", "val") and not run.context.force:
        raise UserError(f"--gan_from {source}: its GAN was trained on other images than those of "
                        f"{run.context.layout.root}, perhaps on test images; restore them or their lists, or add "
                        "--force")
    load_gan_networks(source / "model", gan, None, tuple(gan.NETWORKS))
    gan.start_from_average()


# ------------------------------------------------------------------------------------------------- starting or resuming

def claim_run_directory(directory: RunDirectory, config: Config, restoring: bool) -> None:
    """Lock and mark the directory for this run. Raises UserError if another run has changed it meanwhile."""
    directory.lock()
    if should_resume(config, directory) != restoring:
        raise UserError(f"{directory.folder}: another run has written here meanwhile; start again")
    directory.claim()
    if not restoring:
        StateStore(directory.folder / "state").begin()


def restore(run: Run, config: Config) -> None:
    """Load the newest state, or the networks of a GAN epoch (from 1) with new optimizers, in all processes.

    The main process reads the files and sends the state to the others.
    """
    def load() -> None:
        if config.restored_epoch is None:
            rounds = {name: config.earlier[name] for name in ("round_every", "round_epochs") if name in config.earlier}
            earlier = config.replaced(**rounds)  # --force can change them
            run.restore(lambda: schedule_of(earlier, run.phases["perceptual"].epochs))
        else:
            for phase in run.phases.values():
                phase.load_networks(config.restored_epoch)
            run.move_after(config.restored_epoch)
        print(position(run))
        print_rising_rate(run, config)

    processes = run.processes
    processes.run_on_main(load)
    if processes.world > 1:
        state = processes.broadcast(run.state() if processes.is_main else None)
        if not processes.is_main:
            run.load_state(state)


def position(run: Run) -> str:
    """Return a line that tells at which step a resumed run continues, or that it is complete."""
    stages, folder = run.schedule(), run.context.folder
    if run.stage == len(stages):
        return f"{folder}: the run is complete, its {len(stages)} epochs are trained; raise --epochs to train on"
    stage = run.current_stage()
    count = sum(other.phase == stage.phase for other in stages)
    return f"{folder}: resuming in {stage.phase} epoch {stage.epoch + 1} of {count}, after {run.step} of its " \
           f"{run.phases[stage.phase].steps(stage.epoch)} steps"


def print_rising_rate(run: Run, config: Config) -> None:
    """Print a note if more epochs than before raise the recognizer's rate, which falls over all of its rounds."""
    schedule, epochs, earlier = config.recognizer, config.gan.epochs, config.earlier.get("epochs", config.gan.epochs)
    more_rounds = epochs // schedule.round_every > earlier // config.earlier.get("round_every", schedule.round_every)
    if schedule.vgg_schedule == "cosine" and more_rounds and run.phases["recognizer"].recognizer.steps:
        print(f"note: with --epochs {epochs} in place of {earlier}, the recognizer's rate rises again, since it falls "
              "over all rounds (--vgg_schedule cosine): its accuracy may first fall; the best one so far is kept")


def check_agreement(run: Run) -> None:
    """Check that all processes train the same networks on the same images in the same order, else raise UserError."""
    if run.processes.world == 1:
        return
    stages, digest = [(stage.phase, stage.epoch) for stage in run.schedule()], hashlib.sha256()
    for value in tree_leaves({name: phase.state() for name, phase in run.phases.items()}):
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
                      if isinstance(value, torch.Tensor) else repr(value).encode())
    run.processes.check_same({
        "list of images": run.fingerprint, "content of the images": run.content,
        "schedule": fingerprint([stages, run.stage, run.step]), "precision": str(run.context.amp),
        "networks' weights": digest.hexdigest(),
    }, SAME_COMMAND)


def write_run_files(run: Run, config: Config, pairs: numpy.ndarray) -> None:
    """Write the run's options, lists of images and pairs, and exemplars, and print a summary."""
    layout, folder, processes = run.context.layout, run.context.folder, run.processes
    splits, fold = folder / "splits", config.series.fold
    if fold:
        utils.write_text(splits / fold_list(fold), list_text(layout.test))
    utils.write_text(splits / "images_val.list", list_text(layout.val))
    utils.write_text(splits / "images_gan_nature.list", pair_lines(layout.train + layout.target_only, pairs))
    save_exemplars(folder / "model", *typical_images(run.context.images.subset(layout.train), run.context.num_classes))
    if config.run.gan_from and not run.context.restoring:
        save_gan(folder / "model", run.phases["gan"].gan, run.context.metadata, config.gan.epochs)
    write_options(folder, config, layout, run.context.device)
    of_pairs = "" if config.recognizer.recognizer_only else f"{len(pairs)} pairs, "
    print(f"{folder}: {len(layout.train)} training and {len(layout.val)} validation images of "
          f"{len(layout.expressions)} expressions, {of_pairs}on {processes.world} x {run.context.device.type}")
    if image_directory(layout.root).name == "align_5p" and (layout.root / "data").is_dir():
        print(f"note: the images are those of {layout.root / 'align_5p'}; {layout.root / 'data'} beside it gives the "
              "pictures of targets that keep their expression, as in the published code")
    print_unused_epochs(config)
    facts = Facts.of_metadata(run.context.metadata)
    for finding in findings(facts, facts):
        print(f"warning: {finding}", file=sys.stderr)


def print_unused_epochs(config: Config) -> None:
    """Print a note if GAN epochs are followed by no recognizer round."""
    epochs, every = config.gan.epochs, config.recognizer.round_every
    if not epochs % every or not config.recognizer.round_epochs or not config.trains_gan:
        return
    print(f"note: no recognizer is trained, since --round_every {every} is more than --epochs {epochs}"
          if epochs < every else
          f"note: no recognizer round follows the last {epochs % every} of {epochs} GAN epochs (--round_every {every})")
