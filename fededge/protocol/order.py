"""The order behind an assignment: what the coordinator signed, and a client obeys only when it trusts the signer."""

from typing import Annotated, ClassVar, Self

from pydantic import Field

from fededge.documents import Document
from fededge.eligibility import Conditions
from fededge.errors import DocumentError, IntegrityError
from fededge.protocol.fields import Count, Digest, Id, Name
from fededge.protocol.messages import Kind
from fededge.signing import SigningKey, TrustedKey


class Order(Document):
    """One round's work, the same for each client of its cohort.

    Whoever stands between coordinator and client, a gateway included, can hold an order back, and no more: it is signed
    as a whole, and names all bytes that the work depends on by digest.

    Attributes:
        tenant: whose clients are asked; `task`: its name; `identity`: digest of what is learned and how.
        owner: who runs the task.
        round_id: of the round at the gateway; a client does the work of one round once.
        kind: what is asked for.
        dataset: the name under which clients hold their examples.
        number: of the round.
        seed: of the task.
        cohort: how many clients are asked.
        min_clients: fewer updates than this are never aggregated.
        framework: of the plan; `code`: whether the plan brings code of the user's own.
        plan: digest of the plan's zip file; `weights`: of the weights' file.
        conditions: that a client must meet when it begins, and as long as it works.
        issued: when, in seconds since the epoch.
    """

    KIND: ClassVar = "order"
    VERSION: ClassVar = 2
    LIMIT: ClassVar = 1 << 15
    REMEDY: ClassVar = "Update the older side"

    tenant: Name
    task: Name
    identity: Digest
    owner: Annotated[str, Field(max_length=200)]
    round_id: Id
    kind: Kind
    dataset: Name
    number: Count
    seed: Count
    cohort: Annotated[int, Field(ge=1)]
    min_clients: Annotated[int, Field(ge=1)]
    framework: Name
    code: bool = False
    plan: Digest
    weights: Digest
    conditions: Conditions = Conditions()
    issued: float

    def signed(self, key: SigningKey) -> str:
        """The envelope of this order."""
        return key.sign(self.to_content()).decode()

    @classmethod
    def opened(cls, envelope: str, trusted: TrustedKey) -> Self:
        """The order in `envelope`, once `trusted` is proven to have signed it.

        Raises:
            IntegrityError: not signed by it, or signed and no order of a format that is read here.
        """
        try:
            return cls.from_content(trusted.verify(envelope.encode()), "the signed order")
        except DocumentError as error:
            raise IntegrityError(str(error)) from error
