"""Files of a request: read, shown, summarised, read on; bad ones named."""

from __future__ import annotations

import base64
import io

import pypdf
import pytest
from pagi_planner import Agent, Policy, RunRequest
from pagi_planner.adapters.pypdf_documents import PypdfDocuments
from pagi_planner.domain.errors import UnreadableFileError
from pagi_planner.domain.model import InputFile, ModelTraits, Resource
from pagi_planner.domain.run.phases import files as files_phase
from pagi_planner.testing import InMemoryFiles, ScriptedModel, call, calling, saying

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


def sent(content: bytes, name: str, media_type: str = "") -> InputFile:
    return InputFile(name, media_type, base64.b64encode(content).decode())


def pdf(*pages: str) -> bytes:
    """The smallest PDF that has these pages."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 20 20 Td ({text}) Tj ET"
        page = f"<< /Type /Page /Parent 2 0 R /Contents {5 + 2 * number} 0 R /MediaBox [0 0 300 50] "
        objects.append(page + "/Resources << /Font << /F1 3 0 R >> >> >>")
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    body, places = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, start=1):
        places.append(len(body))
        body += f"{number} 0 obj\n{text}\nendobj\n".encode()
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    trailer = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF"
    return body + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{trailer}".encode()


def encrypted(content: bytes, password: str) -> bytes:
    """The PDF, which opens with this password and another one."""
    writer, file = pypdf.PdfWriter(clone_from=io.BytesIO(content)), io.BytesIO()
    writer.encrypt(password, "another", algorithm="RC4-128")
    writer.write(file)
    return file.getvalue()


class Seeing:
    """A catalogue that says whether models see."""

    def __init__(self, sees: bool | None) -> None:
        self._sees = sees

    async def traits(self, model):
        return ModelTraits(sees=self._sees)


async def asked(*files: InputFile, resources=(), workspace=None, sees=None, policy=None, script=()) -> ScriptedModel:
    model = ScriptedModel(*(script or (saying("done"),)))
    agent = Agent(model, files=workspace, documents=PypdfDocuments(), catalogue=Seeing(sees), policy=policy or Policy())
    await agent.run(RunRequest("What is in it?", "s", files=files, resources=resources))
    return model


@pytest.mark.parametrize(
    ("content", "name", "shown"),
    [
        (b"Tea is green.", "a.txt", "Tea is green."),
        (b"\xef\xbb\xbf# Tea\n\nGreen.", "a.md", "# Tea\n\nGreen."),
        (b"name,colour\ntea,green\n", "a.csv", "name,colour\ntea,green"),
        ("Grüner Tee".encode(), "unknown", "Grüner Tee"),
        (pdf("Tea is green.", "Ice is cold."), "a.pdf", "[page 2]\nIce is cold."),
        (encrypted(pdf("Tea is green."), ""), "a.pdf", "Tea is green."),
    ],
)
async def test_text_stands_before_the_model_under_the_name_of_the_file(content, name, shown):
    model = await asked(sent(content, name))
    system, prompt = model.requests[0].messages
    assert f'<passage source="{name}" heading="attached by the user">' in system.text
    assert shown in system.text
    assert prompt.text == "What is in it?"


async def test_files_of_the_workspace_are_read_too():
    workspace = InMemoryFiles()
    workspace.contents["s", "out/a.txt"] = b"from a tool"
    workspace.contents["s", "b.txt"] = b"as a resource"
    model = await asked(
        InputFile("a.txt", path="out/a.txt"),
        resources=(Resource("file", "workspace:b.txt"), Resource("file", "https://example.com/c")),
        workspace=workspace,
    )
    assert "from a tool" in model.requests[0].messages[0].text
    assert "as a resource" in model.requests[0].messages[0].text
    assert workspace.open_now == 0


@pytest.mark.parametrize("sees", [True, None])
async def test_an_image_goes_to_a_model_that_sees(sees):
    model = await asked(sent(PNG, "a.png"), sees=sees)
    [image] = model.requests[0].messages[-1].images
    assert (base64.b64decode(image.content_base64), image.media_type, image.name) == (PNG, "image/png", "a.png")


async def test_an_image_of_the_workspace_is_kept_in_the_journal():
    workspace = InMemoryFiles()
    workspace.contents["s", "a.png"] = PNG
    model = await asked(InputFile("a.png", path="a.png"), workspace=workspace)
    [image] = model.requests[0].messages[-1].images
    assert base64.b64decode(image.content_base64) == PNG


async def test_a_model_that_does_not_see_is_told_of_the_image():
    model = await asked(sent(PNG, "a.png"), sees=False)
    assert model.requests[0].messages[-1].images == ()
    assert "cannot see pictures" in model.requests[0].messages[0].text


async def test_a_long_file_is_summarised_and_can_be_read_on():
    long = b"word " * 4_000 + b"needle" + b" word" * 100
    script = (
        saying("It says word."),
        calling(call("read_artifact", {"artifact": "file/0", "search": "needle"})),
        saying("done"),
    )
    model = await asked(sent(long, "a.txt"), policy=Policy(max_context_tokens=2_000), script=script)
    summarise, ask, after = model.requests
    assert "word word" in summarise.messages[1].text
    assert "It says word." in ask.messages[0].text
    assert [spec.name for spec in ask.tools] == ["read_artifact"]
    assert '"offset": 20000' in after.messages[-1].text


async def test_files_share_the_room():
    half, most = sent(b"half " * 600, "half.txt"), sent(b"most " * 1_100, "most.txt")
    policy = Policy(max_context_tokens=4_000)
    model = await asked(half, most, policy=policy, script=(saying("It says most."), saying("done")))
    system = model.requests[-1].messages[0].text
    assert "half " * 600 in system
    assert "It says most." in system
    assert (await asked(most, policy=policy)).requests[0].messages[0].text.count("most ") > 1_000


async def test_without_a_summary_its_beginning_and_end_are_shown():
    long = b"begin " + b"word " * 4_000 + b"the end"
    script = (saying(""), saying("done"))
    model = await asked(sent(long, "a.txt"), policy=Policy(max_context_tokens=2_000), script=script)
    system = model.requests[1].messages[0].text
    assert "begin word" in system
    assert "the end" in system
    assert "characters left out. Read on with read_artifact, artifact='file/0'" in system


@pytest.mark.parametrize(
    ("file", "field", "said"),
    [
        (InputFile("a.txt", content_base64="no base64!"), "files[0].content_base64", "not base64"),
        (sent(b"\xff\xfe\0x", "a.txt"), "files[0].content_base64", "not UTF-8"),
        (sent(b"a\0b", "a.txt"), "files[0].content_base64", "NUL"),
        (sent(b" \n", "a.txt"), "files[0].content_base64", "no text"),
        (sent(b"%PDF-1.4 broken", "a.pdf"), "files[0].content_base64", "no PDF that can be read"),
        (sent(pdf(""), "a.pdf"), "files[0].content_base64", "pictures"),
        (sent(encrypted(pdf("x"), "secret"), "a.pdf"), "files[0].content_base64", "encrypted: send it without a pass"),
        (sent(b"no picture", "a.bin", "image/png"), "files[0].content_base64", "said to be image/png"),
        (sent(b"no picture", "a.gif"), "files[0].content_base64", "said to be image/gif"),
        (sent(b"RIFF0000WAVE", "a.wav", "audio/wav"), "files[0].content_base64", "audio/wav cannot be read"),
        (InputFile("a.txt", path="nowhere.txt"), "files[0].path", "does not exist"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_bad_file_is_named(file, field, said):
    with pytest.raises(UnreadableFileError, match=said) as caught:
        await asked(file, workspace=InMemoryFiles())
    assert caught.value.field == field


async def test_pictures_that_no_message_holds_together_are_refused():
    workspace = InMemoryFiles()
    workspace.contents["s", "a.png"] = PNG
    files = [InputFile(f"{n}.png", path="a.png") for n in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files_phase, "MOST_IMAGE_BYTES", 2 * len(PNG) + 4)
        assert len((await asked(*files[:2], workspace=workspace)).requests[0].messages[-1].images) == 2
        with pytest.raises(UnreadableFileError, match="all pictures of a request together may have") as caught:
            await asked(*files, workspace=workspace)
    assert caught.value.field == "files[2].path"


async def test_a_bad_file_is_a_problem_document_that_names_the_field(planner):
    body = {"prompt": "x", "files": [{"name": "a.txt", "content_base64": "YQ=="}, {"path": "nowhere.txt"}]}
    async with planner.client() as client:
        answer = await client.post("/plan", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "files[1].path")


async def test_the_same_key_with_the_same_file_is_the_same_run_and_with_another_is_refused(planner):
    body = {"prompt": "x", "files": [{"name": "a.txt", "content_base64": "YQ=="}]}
    key = {"Idempotency-Key": "k"}
    async with planner.client() as client:
        first = await client.post("/plan", json=body, headers=key)
        again = await client.post("/plan", json=body, headers=key)
        body["files"][0]["content_base64"] = "Yg=="
        other = await client.post("/plan", json=body, headers=key)
    assert first.json() == again.json()
    assert other.status_code == 422


async def test_a_pdf_that_takes_too_long_is_given_up():
    with pytest.raises(UnreadableFileError, match="takes longer"):
        await PypdfDocuments(timeout_s=0.001).text_of_pdf(pdf("x"))
