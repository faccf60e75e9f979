"""A remote model whose calls are all reserved at the same amount, for worlds in which the money is to be exact."""

from apprentice_actors.ports import Question, RemoteAnswer, RemoteFailure, RemoteModel


class FlatQuote:
    """Quotes ``reserved_nd`` for every question, and charges it where the cost of a failure is not known.

    The model behind must never bill more. Implements :class:`apprentice_actors.ports.RemoteModel`.
    """

    def __init__(self, model: RemoteModel, reserved_nd: int) -> None:
        self._model = model
        self._reserved_nd = reserved_nd

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self._model.provider

    @property
    def model(self) -> str:
        """The model name that is asked for."""
        return self._model.model

    def quote_nd(self, question: Question) -> int:
        """The same for everything."""
        return self._reserved_nd

    async def answer(self, question: Question, *, timeout_s: float) -> RemoteAnswer:
        """Ask the model behind. What it charges at its own highest price is charged at the quote."""
        try:
            return await self._model.answer(question, timeout_s=timeout_s)
        except RemoteFailure as failure:
            if failure.cost_nd and failure.usage is None:
                raise RemoteFailure(failure.kind, failure.message, cost_nd=self._reserved_nd) from None
            raise

    async def aclose(self) -> None:
        """Close the model behind."""
        await self._model.aclose()
