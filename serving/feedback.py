"""Feedback: what an answer was worth, counted as metrics.

`seldon_api_model_feedback_reward_total` is the sum of all rewards, `fededge_feedback_total` the number of
messages. Nothing of a message is kept.
"""

import math
from typing import Any

from google.protobuf import json_format
from seldon_core import wrapper
from seldon_core.proto import prediction_pb2

from fededge.errors import RequestError


def install() -> None:
    """Let Seldon's REST server name the mistakes in a feedback, as its gRPC server does."""
    wrapper.json_to_feedback = from_json


def from_json(message: Any) -> prediction_pb2.Feedback:
    """The feedback in a JSON request.

    Raises:
        RequestError: it is not one, or its reward is not a finite number of at least 0.
    """
    if not isinstance(message, dict):
        raise RequestError('the body is not a JSON object: send {"reward": 1.0}', "WRONG_TYPE")
    try:
        return checked(json_format.ParseDict(message, prediction_pb2.Feedback()))
    except (json_format.ParseError, AttributeError, TypeError, RecursionError) as error:
        raise RequestError(
            f"the body is not a feedback: {' '.join(str(error).split())[:200]}. Send request, response, reward "
            "and truth, each optional",
            "WRONG_TYPE",
        ) from error


def checked(feedback: prediction_pb2.Feedback) -> prediction_pb2.Feedback:
    """`feedback`, whose reward can be added up.

    Raises:
        RequestError: the reward is negative or not finite; a total of rewards cannot fall.
    """
    if not (math.isfinite(feedback.reward) and feedback.reward >= 0):
        raise RequestError(
            f"the reward is {feedback.reward:g}: send a finite number of at least 0", "WRONG_REWARD"
        )
    return feedback
