// The picture of a sound: its loudest sample in each of many slices, drawn as bars.

const SLICES = 1200;
const BAR = 3; // CSS pixels of a bar with its gap
const GAP = 1;
const DECODED_HZ = 16_000; // enough for a picture; 300 s in stereo are 38 MB meanwhile

/**
 * The peaks of a sound file, 0..1, the loudest is 1.
 * @throws DOMException: the browser cannot decode it
 */
export async function peaksOf(blob) {
  const context = new OfflineAudioContext(1, 1, DECODED_HZ);
  const buffer = await context.decodeAudioData(await blob.arrayBuffer());
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, i) => buffer.getChannelData(i));
  const slices = Math.max(1, Math.min(SLICES, buffer.length));
  const peaks = new Float32Array(slices);
  for (let i = 0; i < slices; i++) {
    const start = Math.floor((i * buffer.length) / slices);
    const end = Math.max(start + 1, Math.floor(((i + 1) * buffer.length) / slices));
    let most = 0;
    for (const samples of channels) {
      for (let k = start; k < end; k++) most = Math.max(most, Math.abs(samples[k]));
    }
    peaks[i] = most;
  }
  const loudest = Math.max(...peaks, 1e-6);
  return { peaks: peaks.map((p) => p / loudest), seconds: buffer.duration };
}

/**
 * Draws the peaks; without any, a quiet line.
 * @param played 0..1, drawn in the canvas's border colour; the rest is drawn in its text colour
 */
export function draw(canvas, peaks, played) {
  const { width, height } = canvas.getBoundingClientRect();
  if (width === 0) return;
  const scale = window.devicePixelRatio || 1;
  const [w, hgt] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== hgt) Object.assign(canvas, { width: w, height: hgt });
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  const style = getComputedStyle(canvas);
  const bars = Math.max(1, Math.floor((width + GAP) / BAR));
  for (let i = 0; i < bars; i++) {
    const level = peaks ? loudestOf(peaks, i / bars, (i + 1) / bars) : 0;
    const tall = Math.max(2, level * (height - 4));
    context.fillStyle = (i + 0.5) / bars <= played ? style.borderTopColor : style.color;
    context.beginPath();
    context.roundRect(i * BAR, (height - tall) / 2, BAR - GAP, tall, 1);
    context.fill();
  }
}

function loudestOf(peaks, from, to) {
  const end = Math.max(Math.floor(from * peaks.length) + 1, Math.floor(to * peaks.length));
  let most = 0;
  for (let i = Math.floor(from * peaks.length); i < end; i++) most = Math.max(most, peaks[i]);
  return most;
}
