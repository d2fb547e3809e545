"""The compute functions that machines may ask for, by name."""

from collections.abc import Mapping
from typing import Final

from services.tasks import admit, align, curving, evaluating, features, joining, linking, results, score, train
from services.tasks.compute import ComputeFunction

FUNCTIONS: Final[Mapping[str, ComputeFunction]] = {
    "admit": admit.admit,
    "align.mask": align.mask,
    "align.sort": align.sort,
    "align.list": align.send_list,
    "align.echo": align.echo,
    "align.evaluate": align.evaluate,
    "align.open": align.open_echo,
    "align.match": align.match,
    "align.join": joining.join,
    "align.common": joining.send_places,
    "align.places": joining.open_places,
    "align.adopt": joining.adopt,
    "features.quantise": features.quantise,
    "keys.generate": features.generate_keys,
    "keys.verify": features.verify_keys,
    "features.encrypt": features.encrypt,
    "features.open": features.open_features,
    "score": train.score,
    "link.plan": linking.plan,
    "link.terms": linking.encrypt_terms,
    "link.rotate": linking.rotate,
    "link.evaluate": linking.evaluate,
    "residual.open": linking.open_share,
    "cross.close": train.close_cross,
    "gradient": train.gradient,
    "evaluate.partial": evaluating.send_partial,
    "evaluate.results": evaluating.results,
    "stop.judge": evaluating.judge,
    "curvature.score": curving.score,
    "curvature.gradient": curving.gradient,
    "results": results.results,
    "score.admit": score.admit,
    "score.partial": score.send_partial,
    "score.open": score.open_partial,
    "score.hold": score.hold,
    "score.index": score.index,
    "score.results": score.results,
}
