"""Measures other libraries on the same photos as photogate-jobs: CPU milliseconds a photo, and what they find.
Called by scripts/bench-images. Prints one line of JSON."""
import io, json, os, re, resource, subprocess, sys

photos, twelve = sys.argv[1], sys.argv[2]
files = sorted(f"{photos}/{f}" for f in os.listdir(photos) if not f.endswith(".json"))
labels_at = f"{photos}/labels.json"
labels = json.load(open(labels_at)) if os.path.exists(labels_at) else {}
out = {}


def cpu(who=resource.RUSAGE_SELF):
    used = resource.getrusage(who)
    return 1000 * (used.ru_utime + used.ru_stime)


def mean_cpu(times, work, who=resource.RUSAGE_SELF):
    work()
    before = cpu(who)
    for _ in range(times):
        work()
    return round((cpu(who) - before) / times, 2)


def bib(text):
    """The same rule as photogate's: the whole line, letters and digits; no year, time of day or distance."""
    if ":" in text:
        return None
    text = re.sub(r"[^0-9A-Za-z]", "", text).upper()
    if not re.fullmatch(r"[A-Z]{0,2}[0-9]{1,6}[A-Z]{0,2}", text) or len(text) < 2:
        return None
    if re.fullmatch(r"(199|20[0-3])[0-9]", text) and len(text) == 4 or re.fullmatch(r"[0-9]{1,2}(K|KM|M|MI)", text):
        return None
    return text


def f1(found):
    right = wrong = missed = 0
    for name, numbers in found.items():
        want = labels.get(name)
        if want is None:
            continue
        partial = set(want.get("partial", []))
        right += len(numbers & set(want["bibs"]))
        missed += len(set(want["bibs"]) - numbers)
        wrong += len(numbers - set(want["bibs"]) - partial) if want.get("complete", True) else 0
    return round(2 * right / max(1, 2 * right + wrong + missed), 3)


def findings():
    import cv2
    cv2.setNumThreads(1)
    from rapidocr import RapidOCR
    one = {
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        "Global.log_level": "error",
    }
    for name, settings in [("rapidocr", {}), ("rapidocr_960", {"Det.limit_side_len": 960, "Det.limit_type": "max"})]:
        ocr, found, used = RapidOCR(params={**one, **settings}), {}, 0
        ocr(cv2.imread(files[0]))
        for file in files:
            before = cpu()
            seen = ocr(cv2.imread(file))
            used += cpu() - before
            lines = zip(seen.txts or (), seen.scores or ())
            found[os.path.basename(file)] = {n for n in (bib(t) for t, score in lines if score >= 0.9) if n}
        out[f"{name}_cpu_ms"], out[f"{name}_f1"] = round(used / len(files), 1), f1(found)


def pixels():
    from PIL import Image
    import pyvips
    pyvips.cache_set_max(0)

    def pillow():
        image = Image.open(twelve)
        image.draft("RGB", (1280, 1280))
        image.thumbnail((1280, 1280), Image.Resampling.BILINEAR)
        image.convert("RGB").tobytes()

    def vips():
        pyvips.Image.thumbnail(twelve, 1280).write_to_memory()

    def turn():
        Image.open(twelve).transpose(Image.Transpose.ROTATE_270).save(io.BytesIO(), "JPEG", quality=95)

    out["pillow_1280_cpu_ms"] = mean_cpu(10, pillow)
    out["pyvips_1280_cpu_ms"] = mean_cpu(10, vips)
    out["pillow_rotate_cpu_ms"] = mean_cpu(3, turn)


def programs():
    def run(*words):
        return lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    children = resource.RUSAGE_CHILDREN
    jpegtran = run("jpegtran", "-rotate", "90", "-perfect", "-copy", "all", "-outfile", "/dev/null", twelve)
    out["jpegtran_cpu_ms"] = mean_cpu(5, jpegtran, children)
    imagemagick = run("convert-im6.q16", twelve, "-rotate", "90", "-quality", "95", "jpg:/dev/null")
    out["imagemagick_cpu_ms"] = mean_cpu(2, imagemagick, children)
    sharp = (
        "const s=require('sharp');s.concurrency(1);s.cache(false);(async()=>{for(let i=0;i<%d;i++)"
        "await s(process.argv[1]).resize(1280,1280,{fit:'inside'}).raw().toBuffer()})()"
    )
    # The difference of 21 and 1 photos leaves out the time in which node starts.
    long, short = (mean_cpu(1, run("node", "-e", sharp % n, twelve), children) for n in (21, 1))
    out["sharp_1280_cpu_ms"] = round((long - short) / 20, 2)


os.environ["OMP_NUM_THREADS"] = os.environ["VIPS_CONCURRENCY"] = "1"
findings()
pixels()
programs()
print(json.dumps(out))
