"""Activity recognition: what is done in a clip, by its frames, and what somebody does, by a watch.

    python -m experiments.activity_recognition train-video
    python -m experiments.activity_recognition classify-clip FOLDER_OF_FRAMES clip.gif
    python -m experiments.activity_recognition train-sensors
    python -m experiments.activity_recognition classify-recording recording.csv --side left

Both are many-to-one, P(y | x^<1>, …, x^<Tx>). Of a clip x^<t> is a picture: a small convolutional
network makes a vector of each frame, and an LSTM reads the vectors; or a ConvLSTM reads what the
convolutions make of a frame, place by place. Who acts in the held-out clips was never seen. Clips
are also shown backwards, and it is asked which way: nothing but the order tells that, and a network
that sees a single frame, or all of them without their order, can only guess. Beside the networks
stand nearest neighbours and a logistic regression of frames.

Of a watch x^<t> are six numbers, acceleration and rotation. The people are shared out into five
folds, and each fold is held out once. Beside the recurrent network stands a random forest of
features that were thought out.

Interrupted, the same command goes on from the last checkpoint.

Recorded: clips of actors never seen, what is done and which way: 0.759 and 0.846 by an LSTM over
frames, 0.724 and 0.810 by a ConvLSTM, 0.732 and 0.500 by a bag of frames, 0.652 and 0.500 by a
single frame, 0.823 and 0.893 by nearest neighbours of frames in order; `python -m
experiments.activity_recognition train-video`, 2.3 minutes on 2 cores of AMD EPYC
(docs/results/activity_video/report.md). A watch, windows of people never seen: accuracy 0.912,
against 0.895 of a random forest of features, published 0.873 and 0.889; `python -m
experiments.activity_recognition train-sensors`, 1.3 minutes on 2 cores of AMD EPYC
(docs/results/activity_sensors/report.md).
"""

import sys
from typing import Annotated

import tyro

from experiments import activity_sensors, activity_video
from experiments.activity_sensors import ClassifyRecording, TrainSensors
from experiments.activity_video import ClassifyClip, TrainVideo
from experiments.command_line import one_line_errors, preset_named

Command = TrainVideo | ClassifyClip | TrainSensors | ClassifyRecording


def parse(arguments: list[str]) -> Command:
    """The command line as a record; `--preset` says which defaults the other flags have."""
    video = preset_named(arguments, activity_video.PRESETS)
    sensors = preset_named(arguments, activity_sensors.PRESETS)
    commands = (
        Annotated[TrainVideo, tyro.conf.subcommand("train-video", default=video)]
        | Annotated[ClassifyClip, tyro.conf.subcommand("classify-clip")]
        | Annotated[TrainSensors, tyro.conf.subcommand("train-sensors", default=sensors)]
        | Annotated[ClassifyRecording, tyro.conf.subcommand("classify-recording")]
    )
    return tyro.cli(commands, args=arguments, description=(__doc__ or "").split("\n\n")[0])


def main(arguments: list[str] | None = None) -> None:
    """Run a command line."""
    with one_line_errors():
        config = parse(sys.argv[1:] if arguments is None else arguments)
        if isinstance(config, TrainVideo):
            activity_video.train(config)
        elif isinstance(config, ClassifyClip):
            activity_video.classify(config)
        elif isinstance(config, TrainSensors):
            activity_sensors.train(config)
        else:
            activity_sensors.classify(config)


if __name__ == "__main__":
    main()
