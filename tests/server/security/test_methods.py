"""Every method against every kind of credentials, from the descriptors: a new method cannot be forgotten."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.glimpse.v1 import gallery_pb2, search_pb2
from server.interceptors import Methods
from server.security.credentials import AccessFile
from server.security.roles import ACCESS, Access, Role
from server.security.tokens import make_token
from tests.bundles import encoded, person
from tests.server.running import Running
from tests.server.security.calls import METHODS, bearer, call, request_for

GALLERY_METHODS = [method for method in METHODS if method in ACCESS and ACCESS[method].galleries]
RECEIVED = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})


@dataclass(frozen=True)
class Site:
    """A server that asks for tokens, with the galleries `crowd` and `other`, and the tokens of its callers."""

    running: Running
    tokens: dict[str, str]

    def call(self, method: str, token: str | None, gallery: str = "crowd") -> tuple[str, str]:
        metadata = bearer(self.tokens[token]) if token is not None else ()
        return call(self.running.channel, method, request_for(method, gallery), metadata)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Site]:
    data = tmp_path_factory.mktemp("site") / "data"
    file = AccessFile(data)
    tokens = {str(role): file.create(role)[1] for role in Role}
    tokens |= {f"{role} of other": file.create(role, galleries=("other",))[1] for role in Role}
    tokens |= {f"{role} of crowd": file.create(role, galleries=("crowd",))[1] for role in Role}
    tokens["expired"] = file.create(Role.ADMIN, lifetime=1e-9)[1]
    revoked, tokens["revoked"] = file.create(Role.ADMIN)
    file.revoke(revoked.id)
    tokens["unknown"] = make_token()[1]
    tokens["mistyped"] = tokens["admin"][:-7] + ("x" if tokens["admin"][-7] != "x" else "y") + tokens["admin"][-6:]
    tokens["cut off"] = tokens["admin"][:-1]
    tokens["empty"] = ""
    with Running(data, model) as running:
        for name in ("crowd", "other"):
            request = gallery_pb2.CreateGalleryRequest(gallery=name)
            running.galleries.CreateGallery(request, metadata=bearer(tokens["admin"]))
        yield Site(running, tokens)


def test_every_method_has_its_access_and_every_access_its_method() -> None:
    ours = {method for method in ACCESS if method.startswith("/glimpse.v1.")}
    assert set(METHODS) == ours


def test_everything_that_a_server_answers_has_its_access(site: Site) -> None:
    methods = site.running.application._methods
    assert methods is not None
    assert set(methods._handlers) <= set(ACCESS)


@pytest.mark.parametrize("method", METHODS)
def test_the_access_of_a_method_fits_its_messages(method: str) -> None:
    access, descriptor = ACCESS[method], METHODS[method]
    assert access.role is not None, "only health is open to everyone"
    fields = descriptor.input_type.fields_by_name
    assert set(access.galleries) <= set(fields)
    if not access.whole_server:
        assert "gallery" not in fields or "gallery" in access.galleries, "it names a gallery that nobody checks"
    if access.people == ".":
        assert "item_id" in descriptor.output_type.fields_by_name
    elif access.people:
        people = descriptor.output_type.fields_by_name[access.people]
        assert {"item_id", "person_id"} <= set(people.message_type.fields_by_name)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("token", [None, "expired", "revoked", "unknown", "mistyped", "cut off", "empty"])
def test_nobody_without_valid_credentials_gets_an_answer(site: Site, method: str, token: str | None) -> None:
    code, message = site.call(method, token)
    assert code == "UNAUTHENTICATED"
    told = {"expired": "has expired", "revoked": "was revoked", "unknown": "not known", None: "authorization: Bearer"}
    assert told.get(token, "incomplete or mistyped") in message
    assert token is None or site.tokens["admin"] not in message


@pytest.mark.parametrize("header", ["Basic YWRtaW46YWRtaW4=", "Bearer", "", "glm_"])
def test_another_kind_of_authorization_is_none(site: Site, header: str) -> None:
    metadata = (("authorization", header),)
    for method in METHODS:
        assert call(site.running.channel, method, request_for(method, "crowd"), metadata)[0] == "UNAUTHENTICATED"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("role", list(Role), ids=str)
def test_a_role_opens_what_it_should_and_nothing_more(site: Site, method: str, role: Role) -> None:
    needed = ACCESS[method].role
    assert needed is not None
    code, message = site.call(method, str(role), gallery="nowhere")
    if role < needed:
        assert code == "PERMISSION_DENIED"
        assert f"needs the role {needed}" in message
    else:
        assert code not in RECEIVED, message


@pytest.mark.parametrize("method", GALLERY_METHODS)
def test_a_token_for_other_galleries_cannot_tell_whether_this_one_exists(site: Site, method: str) -> None:
    there, said_there = site.call(method, "admin of other", gallery="crowd")
    absent, said_absent = site.call(method, "admin of other", gallery="crows")
    assert (there, absent) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
    assert said_there.replace("crowd", "crows") == said_absent


@pytest.mark.parametrize("method", [method for method in METHODS if ACCESS[method].whole_server])
def test_what_is_about_the_whole_server_is_closed_to_the_admin_of_a_gallery(site: Site, method: str) -> None:
    code, message = site.call(method, "admin of other")
    assert code == "PERMISSION_DENIED"
    assert "whole server" in message


@pytest.mark.parametrize("method", GALLERY_METHODS)
def test_a_token_for_a_gallery_may_use_it(site: Site, method: str) -> None:
    role = ACCESS[method].role
    code, message = site.call(method, f"{role} of crowd", gallery="crowd")
    assert code not in RECEIVED, message
    if method.endswith("/DeleteGallery"):
        site.running.galleries.CreateGallery(
            gallery_pb2.CreateGalleryRequest(gallery="crowd"), metadata=bearer(site.tokens["admin"])
        )


def test_lists_tell_of_the_callers_galleries_only(site: Site) -> None:
    metadata = bearer(site.tokens["reader of other"])
    listed = site.running.galleries.ListGalleries(gallery_pb2.ListGalleriesRequest(), metadata=metadata)
    assert [gallery.gallery for gallery in listed.galleries] == ["other"]
    every = site.running.galleries.ListGalleries(
        gallery_pb2.ListGalleriesRequest(), metadata=bearer(site.tokens["reader"])
    )
    assert {"crowd", "other"} <= {gallery.gallery for gallery in every.galleries}


def test_a_missing_gallery_of_ones_own_is_not_answered_with_the_names_of_others(site: Site) -> None:
    running = site.running
    running.galleries.DeleteGallery(
        gallery_pb2.DeleteGalleryRequest(gallery="other"), metadata=bearer(site.tokens["admin"])
    )
    try:
        code, message = site.call("/glimpse.v1.GalleryService/GetGallery", "reader of other", gallery="other")
    finally:
        running.galleries.CreateGallery(
            gallery_pb2.CreateGalleryRequest(gallery="other"), metadata=bearer(site.tokens["admin"])
        )
    assert code == "NOT_FOUND"
    assert "crowd" not in message


def test_each_request_of_a_stream_is_checked(site: Site) -> None:
    metadata = bearer(site.tokens["indexer of crowd"])
    item = gallery_pb2.Item(item_id="a", image=encoded(person(1)))
    mine = gallery_pb2.UpsertRequest(gallery="crowd", items=[item])
    again = gallery_pb2.UpsertRequest(items=[item])  # the same gallery once more
    theirs = gallery_pb2.UpsertRequest(gallery="other", items=[item])
    responses = site.running.galleries.Upsert(iter([mine, again, theirs]), metadata=metadata)
    assert next(responses).results[0].status.code == 0
    assert next(responses).results[0].status.code == 0
    with pytest.raises(grpc.RpcError, match="may not use gallery 'other'"):
        next(responses)
    search = [search_pb2.SearchRequest(gallery=name, item_id="a") for name in ("other", "crowd")]
    refused, found = site.running.search.SearchStream(iter(search), metadata=metadata)
    assert refused.error.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
    assert not found.HasField("error")


@pytest.mark.parametrize("kind", ["SearchStream", "Upsert"])
def test_a_stream_ends_when_its_token_is_revoked(site: Site, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.security.guard.LOOK_SECONDS", 0)
    file = AccessFile(site.running.settings.data)
    grant, token = file.create(Role.INDEXER)
    sent: queue.SimpleQueue[Message] = queue.SimpleQueue()
    if kind == "Upsert":
        item = gallery_pb2.Item(item_id="a", image=encoded(person(1)))
        message: Message = gallery_pb2.UpsertRequest(gallery="crowd", items=[item])
        stream = site.running.galleries.Upsert(iter(sent.get, None), metadata=bearer(token))
    else:
        message = search_pb2.SearchRequest(gallery="crowd", item_id="nobody")
        stream = site.running.search.SearchStream(iter(sent.get, None), metadata=bearer(token))
    sent.put(message)
    next(stream)
    file.revoke(grant.id)
    sent.put(message)
    with pytest.raises(grpc.RpcError, match="not valid any more") as error:
        next(stream)
    assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]
    sent.put(None)  # type: ignore[arg-type]  # lets the sending thread end


def test_health_is_open_and_reflection_is_for_known_callers(site: Site) -> None:
    assert site.running.status() == "SERVING"
    watch = site.running.health.Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    stub = reflection_pb2_grpc.ServerReflectionStub(site.running.channel)
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    with pytest.raises(grpc.RpcError) as error:
        list(stub.ServerReflectionInfo(iter([question]), timeout=30))
    assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]
    metadata = bearer(site.tokens["reader of other"])
    (answer,) = stub.ServerReflectionInfo(iter([question]), metadata=metadata, timeout=30)
    assert len(answer.list_services_response.service) > 3


def test_a_method_without_an_access_is_closed_to_everyone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    method = "/glimpse.v1.AdminService/GetModel"
    monkeypatch.delitem(ACCESS, method)  # type: ignore[arg-type]
    application = site.running.application
    handlers = application._methods
    assert isinstance(handlers, Methods)
    inner = handlers._handlers
    forgotten = handlers._wrapped(method, inner[method])
    monkeypatch.setitem(inner, method, forgotten)
    code, message = call(site.running.channel, method, request_for(method, ""), bearer(site.tokens["admin"]))
    assert (code, message) == ("PERMISSION_DENIED", "this method has no role and is closed to everyone")


def test_an_access_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="names no galleries"):
        Access(Role.ADMIN, ("gallery",), whole_server=True)
    with pytest.raises(ValueError, match="reader, indexer, admin"):
        Role.named("root")
