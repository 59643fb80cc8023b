"""The television that listens: sounds, features, letters, commands, and the corrections that it learns from."""

from __future__ import annotations

import base64
import importlib
import io
import json
import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from springtide.spec.errors import UserError

FOLDER = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(FOLDER / "voice_tv"))
corpus, corrections, features, lessons, room, sound, speaking, tv, voice_model, words = (
    importlib.import_module(name)
    for name in (
        *("corpus", "corrections", "features", "lessons", "room", "sound", "speaking", "tv", "voice_model", "words"),
    )
)
picture, recording, verdict = (importlib.import_module(f"shown.{name}") for name in ("picture", "recording", "verdict"))
sys.path.remove(str(FOLDER / "voice_tv"))  # its train.py must not be what others import by that name
TV = tv.TV


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As a worker has: more of them wait for each other where others compute too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Two words, each said four times by three voices."""
    folder = tmp_path_factory.mktemp("corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOICE_TV", str(folder))
        said = corpus.crowd({"en": ["louder", "music"]}, corpus.VARIANTS[:3], 4)
        yield corpus.kept("few", said)


def a_wav(seconds: float = 0.5, *, channels: int = 1, width: int = 2, rate: int = 16_000) -> bytes:
    body = io.BytesIO()
    with wave.open(body, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        wave_s = np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
        samples = (wave_s * 100 + 128).astype("u1") if width == 1 else (wave_s * 20_000).astype("<i2")
        file.writeframes(np.repeat(samples, channels).tobytes())
    return body.getvalue()


# --- sound


def test_a_corpus_of_a_few_words_has_every_voice_saying_each(few):
    assert len(few) == 24
    assert len(set(few.voices)) == 3
    assert set(few.texts) == {"louder", "music"}
    assert few.bands(3).shape[1] == features.BANDS and len(few.bands(3)) % features.PIECE == 0


@pytest.mark.slow
def test_the_same_words_sound_the_same_whoever_spoke_before():
    said = corpus.crowd({"en": ["louder"], "de": ["lauter"]}, ["f2", "m3"], 1)
    forth = list(speaking.spoken(said, speaking.SOUND, processes=1))
    back = list(speaking.spoken(said[::-1], speaking.SOUND, processes=1))[::-1]
    for one, other in zip(forth, back, strict=True):
        np.testing.assert_array_equal(one[0], other[0])


def test_held_out_voices_are_not_trained_on():
    assert not set(corpus.HELD_OUT) & set(corpus.VARIANTS)


@pytest.mark.parametrize("kind", room.NOISES)
def test_noise_is_as_loud_as_asked(kind):
    chance = np.random.default_rng(0)
    speech = chance.standard_normal(5_000).astype(np.float32)
    assert np.mean(room.noise(kind, 8_000, chance, speech) ** 2) == pytest.approx(1.0, rel=1e-3)


def test_an_echo_comes_after_the_sound_and_fades():
    answer = room.echo(np.random.default_rng(0), fades_s=0.3, distance=0.5)
    assert answer[0] == 1.0 and np.abs(answer[1:40]).max() == 0.0
    assert np.abs(answer[-500:]).max() < 0.01 * np.abs(answer[1:]).max()


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_a_tone_keeps_its_pitch_at_another_rate(rate):
    heard = sound.from_wav(a_wav(rate=rate))
    spectrum = np.abs(np.fft.rfft(heard))
    assert spectrum.argmax() / heard.size * sound.RATE == pytest.approx(440, abs=3)


def test_a_wav_comes_back_as_it_went():
    given = np.sin(np.arange(8_000) / 10).astype(np.float32) / 2
    np.testing.assert_allclose(sound.from_wav(sound.to_wav(given)), given, atol=1e-4)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"hello", "this is no WAV file"),
        (b"", "this is no WAV file"),
        (a_wav()[:30], "this is no WAV file"),
        (a_wav(width=1), "the WAV has 8 bits a sample; send 16"),
        (a_wav(channels=2), "the WAV has 2 channels; send one"),
        (a_wav(rate=4_000), "the WAV has 4000 samples a second; send 8000 to 48000"),
        (a_wav(9.0), "the WAV lasts 9.0 s; a command is at most 5 s long"),
        (a_wav(0.0), "the WAV is empty or silent"),
        (sound.to_wav(np.zeros(8_000)), "the WAV is empty or silent"),
    ],
    ids=["text", "nothing", "cut", "8 bit", "stereo", "slow", "long", "empty", "silent"],
)
def test_what_is_no_command_of_one_voice_is_told_so_in_one_sentence(body, sentence):
    with pytest.raises(UserError, match=sentence) as told:
        voice_model.build().preprocess(body)
    assert "\n" not in str(told.value)


# --- features


def test_filters_rise_and_fall_and_overlap_by_half():
    table = features.filters()
    assert table.shape == (features.FFT // 2 + 1, features.BANDS)
    peaks = table.argmax(0)
    assert (peaks.diff() > 0).all()
    inner = table[peaks[3] : peaks[-3]]
    torch.testing.assert_close(inner.sum(1), torch.ones(len(inner)), atol=0.02, rtol=0)


def test_a_tone_is_loudest_in_its_band():
    time_s = torch.arange(16_000) / sound.RATE
    loud = torch.cat([torch.sin(2 * torch.pi * 1_000 * time_s), torch.zeros(16_000)])
    bands = features.log_mel(loud)
    band = bands[40:60].mean(0).argmax()
    frequencies = torch.linspace(0, sound.RATE / 2, features.FFT // 2 + 1)
    assert frequencies[features.filters()[:, band].argmax()] == pytest.approx(1_000, abs=80)


@pytest.mark.parametrize("samples", [1, 400, 16_000, 33_333])
def test_frames_are_filled_to_whole_pieces(samples):
    bands = features.log_mel(torch.randn(samples))
    assert bands.shape[1] == features.BANDS and len(bands) % features.PIECE == 0 and bands.isfinite().all()


def test_how_loud_somebody_speaks_makes_little_difference(few):
    spoken = torch.randn(16_000) * torch.linspace(0.1, 1, 16_000)
    torch.testing.assert_close(features.log_mel(spoken), features.log_mel(0.2 * spoken), atol=0.01, rtol=0)


# --- letters and commands


def test_every_phrase_can_be_spelt():
    assert len(words.COMMANDS) == 30
    assert all(words.spelt(phrase) == phrase and len(phrase) <= words.LONGEST for phrase in words.PHRASES)


def test_repeated_letters_are_one_and_blanks_are_none():
    best = [0, 5, 5, 0, 5, 1, 1, 6, 0, 0]
    assert voice_model.collapsed(best) == f"{words.LETTERS[5] * 2} {words.LETTERS[6]}"


@pytest.mark.parametrize(("one", "other", "wrong"), [("", "abc", 3), ("lauter", "leiser", 3), ("six", "six", 0)])
def test_distance_counts_letters(one, other, wrong):
    assert voice_model.distance(one, other) == voice_model.distance(other, one) == wrong


def letters_of(text: str) -> torch.Tensor:
    """What a network would give that is sure of these letters."""
    places = [number for letter in text for number in (words.LETTERS.index(letter), 0)]
    return torch.nn.functional.one_hot(torch.tensor(places), len(words.LETTERS)).float().clamp(min=1e-9).log()


@pytest.mark.parametrize(
    ("text", "command"),
    [("kanal drei", "channel 3"), ("channl five", "channel 5"), ("lauder", "louder"), ("pizza", None), ("mute", None)],
)
def test_the_nearest_phrase_is_meant_if_it_is_near(text, command):
    heard = voice_model.build().understand(letters_of(text))
    assert (heard.command, heard.text, heard.phrase is None) == (command, text, command is None)
    assert heard.confidence <= 1.0


def test_two_words_are_learnt_by_letters(few):
    torch.manual_seed(0)
    model = voice_model.build(width=48)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rows = [lessons.Recordings(few)[number] for number in range(len(few))]
    for _ in range(70):
        heard, text = lessons.together(rows)
        loss = lessons.loss_of(model, heard, text)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    with torch.no_grad():
        assert float(lessons.judge(model.eval(), *lessons.together(rows))["accuracy"]) > 0.9


def test_what_only_fills_up_a_batch_changes_no_letter():
    torch.manual_seed(0)
    model = voice_model.build().eval()
    some = [torch.randn(frames, features.BANDS) for frames in (96, 64, 128)]
    heard, _ = lessons.together([(one, torch.ones(1)) for one in some])
    with torch.inference_mode():
        for one, row in zip(some, model.spell(heard.values, heard.mask), strict=True):
            torch.testing.assert_close(row[: len(one) // voice_model.SHORTER], model.spell(one[None])[0])


# --- corrections


def test_a_new_word_is_known_once_enough_users_taught_it():
    model, mute = voice_model.build(), [*words.numbers("mute"), 0, 0]
    model.learn([mute])
    assert "mute" not in model.vocabulary()
    model.learn([mute] * 7 + [words.numbers("louder")])
    assert model.vocabulary().keys() - words.PHRASES.keys() == {"mute"}
    assert model.understand(letters_of("mute")).command == "mute"


def test_what_was_taught_is_the_mean_over_microbatches():
    whole, parts = voice_model.build(), [voice_model.build() for _ in range(4)]
    for number, model in enumerate([*parts, whole] * 3):
        model.learn([words.numbers("mute")] * (1 + number % 2) + [words.numbers("pause")] * 2)
    whole.taught = torch.stack([one.taught for one in parts]).mean(0)
    assert whole.vocabulary().keys() - words.PHRASES.keys() == {"mute", "pause"}


def test_a_corrected_request_becomes_what_is_trained_on():
    body = a_wav()
    found = corrections.learnable({"correct": "Mute!", "input": {"base64": base64.b64encode(body).decode()}})
    bands, text = corrections.sample(json.dumps(found).encode())
    np.testing.assert_allclose(bands, voice_model.build().preprocess(body)["bands"], atol=2e-3)
    assert text.tolist() == words.numbers("mute")


@pytest.mark.parametrize("correct", [None, 3, "", "?!", "x" * 50])
def test_a_correction_that_is_no_phrase_teaches_nothing(correct):
    assert corrections.learnable({"correct": correct, "input": {"wav": ""}}) is None


def test_scores_tell_of_each_part():
    bands = np.zeros((32, features.BANDS), np.float32)
    records = [corrections.record(bands, "louder") | {"slice": name} for name in ("english", "english", "german")]
    with torch.inference_mode():
        scores = voice_model.build().eval().evaluate(records)
    assert scores["count"] == 3
    assert {name: part["count"] for name, part in scores["slices"].items()} == {"english": 2, "german": 1}


# --- the television


@pytest.mark.parametrize(
    ("before", "command", "after"),
    [
        (TV(), "turn on", TV(on=True)),
        (TV(), "louder", TV()),
        (TV(on=True), None, TV(on=True)),
        (TV(on=True), "pizza", TV(on=True)),
        (TV(on=True), "channel 7", TV(on=True, channel=7, before=1)),
        (TV(on=True), "channel 13", TV(on=True)),
        (TV(on=True, channel=7, before=3), "go back", TV(on=True, channel=3, before=7)),
        (TV(on=True, channel=12), "next channel", TV(on=True, channel=1, before=12)),
        (TV(on=True), "previous channel", TV(on=True, channel=12, before=1)),
        (TV(on=True), "movies", TV(on=True, channel=5, before=1)),
        (TV(on=True, volume=19), "louder", TV(on=True, volume=20)),
        (TV(on=True, volume=1, muted=True), "quieter", TV(on=True, volume=0)),
        (TV(on=True), "mute", TV(on=True, muted=True)),
        (TV(on=True, muted=True), "mute", TV(on=True)),
        (TV(on=True, channel=4), "turn off", TV(channel=4)),
    ],
    ids=str,
)
def test_the_television_obeys(before, command, after):
    assert tv.press(before, command) == after
    assert tv.from_numbers(tv.numbers(after)) == after


def test_every_command_does_something_to_some_television():
    some = [TV(), TV(on=True), TV(on=True, channel=5, before=9, volume=20), TV(on=True, channel=8, before=2, volume=2)]
    assert all(any(tv.press(one, command) != one for one in some) for command in [*words.COMMANDS, "mute"])


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ([], '"tv" must be an object'),
        ({"sound": 3}, "not sound"),
        ({"volume": 21}, "volume is 21; give 0 to 20"),
        ({"channel": "one"}, "channel is 'one'; give 1 to 12"),
        ({"on": 2}, "on is 2; give true or false"),
    ],
)
def test_a_state_that_no_television_has_is_told_so(said, sentence):
    with pytest.raises(UserError, match=sentence):
        tv.from_json(said)


def test_a_request_may_carry_the_state_and_gets_the_new_one():
    model = voice_model.build().eval()
    body = {"wav": base64.b64encode(a_wav()).decode(), "tv": {"on": True, "channel": 9}}
    given = model.preprocess(body)
    output = model.postprocess({"letters": letters_of("kanal zwei"), "tv": given["tv"]})
    assert output["command"] == "channel 2"
    assert output["tv"] == {"on": True, "channel": 2, "before": 9, "volume": 8, "muted": False}
    with pytest.raises(UserError, match='a JSON request has "wav"'):
        model.preprocess({"sound": 1})


# --- the demonstration


def a_story():
    """Three versions; the new word is understood from the third on."""
    story = recording.Story(servers=[{7}, {7}], corrected=[1002.0, 1010.0])
    for second in range(30):
        version = 1 + (second > 10) + (second > 20)
        told = "mute" if version == 3 else None
        story.answers.append(recording.Answer(1000.0 + second, "mute", told, "mute", version))
        story.answers.append(recording.Answer(1000.5 + second, "louder", "louder", "louder", version))
    return story


def the_exams(known: int = 98, learnt: int = 19):
    known_before = recording.Exam((1,), {"louder": (98, 100), "mute": (0, 20)})
    return known_before, recording.Exam((3,), {"louder": (known, 100), "mute": (learnt, 20)})


def broken(story, exams, left: int = 0) -> list[str]:
    return [line.promise for line in verdict.lines(story, *exams, left) if not line.holds]


def test_a_story_without_a_fault_is_called_good():
    assert broken(a_story(), the_exams()) == []


def test_whatever_goes_wrong_is_told():
    story = a_story()
    assert broken(story, the_exams(learnt=12)) == ['it learnt "mute" from corrections alone']
    assert broken(story, the_exams(known=90)) == ["what it knew it still knows"]
    assert broken(story, the_exams(), left=1) == ["nothing is left behind"]
    story.failures.append("503")
    assert broken(story, the_exams()) == ["no request was lost"]
    story.failures.clear()
    story.servers[1] = {8}
    assert broken(story, the_exams()) == ["no server was restarted for it"]


def test_the_curve_of_the_new_word_rises():
    story = a_story()
    shares = [share for _, share in story.curve(new=True, every_s=10.0)]
    assert shares[0] == 0.0 and shares[-1] > 0.8
    assert [version for _, version in story.changes()] == [1, 2, 3]


@pytest.mark.parametrize("width", [80, 120])
def test_the_picture_of_the_terminal_fits_it(width):
    lines = picture.text(a_story(), width).plain.splitlines()
    assert max(map(len, lines)) <= width and "v3" in lines[2]


def test_the_picture_is_drawn(tmp_path):
    picture.draw(a_story(), *the_exams(), tmp_path / "voice.png")
    assert (tmp_path / "voice.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.timeout(580)
def test_the_whole_story_keeps_all_promises_and_leaves_nothing(tmp_path):
    temporary = tmp_path / "t"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    environment.pop("VOICE_TV", None)
    done = subprocess.run(
        [sys.executable, str(FOLDER / "demo_voice.py"), "--plot", str(tmp_path / "voice.png")], env=environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=570,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Verdict" in done.stdout
    assert (tmp_path / "voice.png").exists()
    assert list(temporary.iterdir()) == []
