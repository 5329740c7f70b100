"""A FastAPI application that knows nothing of rate limits: Envoy verifies tokens and Tidegate limits before it is asked."""

import base64
import json

from fastapi import Depends, FastAPI, HTTPException, Request

app = FastAPI()


def user(request: Request) -> str:
    """Whom Envoy's jwt_authn verified: it writes the token's payload into this header, and drops a client's own."""
    payload = request.headers.get("x-jwt-payload")
    if payload is None:
        raise HTTPException(status_code=401, detail="a token is needed")
    padded = payload + "=" * (-len(payload) % 4)
    return json.loads(base64.urlsafe_b64decode(padded))["sub"]


@app.get("/api/search")
def search(q: str = "", user: str = Depends(user)) -> dict[str, object]:
    return {"user": user, "query": q, "results": []}


@app.get("/items/{item}")
def read_item(item: int) -> dict[str, int]:
    return {"item": item}
