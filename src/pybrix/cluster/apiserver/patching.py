"""Apply the patches that clients send, with the answers a Kubernetes API gives when one does not fit. Pure."""

from __future__ import annotations

from typing import Any

from pybrix.cluster.apiserver.failures import bad_request, failure, unsupported_media_type
from pybrix.cluster.apiserver.jsonpatch import (
    MalformedPatch,
    PatchDoesNotApply,
    apply_json_patch,
)
from pybrix.cluster.apiserver.resources import ResourceType
from pybrix.cluster.apiserver.strategic import apply_strategic_patch
from pybrix.kube.interface import PatchType
from pybrix.kube.patch import merge_patched


def patched(served: ResourceType, data: dict[str, Any], patch_type: PatchType, patch: Any) -> Any:
    """Return the object with a JSON, merge or strategic merge patch applied; it may have become anything.

    What the patch leaves alone may be the object's own parts.

    Raises:
        BadRequest: the patch is malformed.
        Invalid: a JSON patch does not apply to this object.
        StatusError (415): a strategic merge patch of a custom resource.
    """
    try:
        match patch_type:
            case PatchType.JSON:
                return apply_json_patch(data, patch)
            case PatchType.MERGE:
                if not isinstance(patch, dict):
                    raise MalformedPatch("a merge patch of an object is an object")
                return merge_patched(data, patch)
            case PatchType.STRATEGIC:
                if served.is_custom:
                    accepted = (PatchType.JSON, PatchType.MERGE, PatchType.APPLY)
                    raise unsupported_media_type(patch_type, [str(t) for t in accepted])
                return apply_strategic_patch(data, patch, served.shape)
            case PatchType.APPLY:
                raise bad_request("an apply is no patch of a subresource such as scale: use a merge patch")
    except MalformedPatch as err:
        raise bad_request(f"error decoding patch: {err}") from err
    except PatchDoesNotApply as err:
        raise failure(422, "Invalid", f"the server rejected our request due to an error in our request: {err}") from err
