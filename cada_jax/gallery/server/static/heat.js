// Draws where a word looks, and says it in words.

const CELL = 48; // pixels of the canvas across one patch

/** Whole words: the pieces of one word ("##ed" follows "stand") become one, by their mean. */
export function wholeWords(tokens) {
  const words = [];
  for (const token of tokens) {
    if (/^\[.*\]$/.test(token.word)) continue; // a mark of the vocabulary, no word
    if (token.word.startsWith("##") && words.length) words.at(-1).push(token);
    else words.push([token]);
  }
  return words.map((pieces) => ({
    word: pieces.map((piece) => piece.word.replace(/^##/, "")).join(""),
    gate: mean(pieces.map((piece) => piece.gate)),
    gates: pieces[0].gates?.map((_, i) => mean(pieces.map((piece) => piece.gates[i]))) ?? null,
    map: pieces[0].map.map((row, r) => row.map((_, c) => mean(pieces.map((piece) => piece.map[r][c])))),
  }));
}

/** Lights the patches up in proportion to their weight; null clears the canvas. */
export function draw(canvas, map) {
  const rows = map?.length ?? 1;
  const columns = map?.[0]?.length ?? 1;
  const shape = canvas.clientHeight / canvas.clientWidth || rows / columns;
  const height = Math.max(4, Math.round((shape * columns * CELL) / rows)); // patches need not be square
  canvas.width = columns * CELL;
  canvas.height = rows * height;
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!map) return;
  const most = Math.max(...map.flat(), Number.MIN_VALUE);
  map.forEach((row, r) =>
    row.forEach((weight, c) => {
      const share = Math.max(0, weight) / most;
      context.fillStyle = `rgb(12 16 24 / ${(0.66 * (1 - share)).toFixed(3)})`;
      context.fillRect(c * CELL, r * height, CELL, height);
      context.fillStyle = `rgb(255 176 32 / ${(0.5 * share).toFixed(3)})`;
      context.fillRect(c * CELL, r * height, CELL, height);
      if (share > 0.55) {
        context.strokeStyle = `rgb(255 214 120 / ${share.toFixed(3)})`;
        context.lineWidth = 3;
        context.strokeRect(c * CELL + 2, r * height + 2, CELL - 4, height - 4);
      }
    }),
  );
}

/** One sentence: where a map is strongest. */
export function describe(word, map) {
  const cells = map.flatMap((row, r) => row.map((weight, c) => ({ weight: Math.max(0, weight), r, c })));
  const total = cells.reduce((sum, cell) => sum + cell.weight, 0);
  if (!total) return `“${word}” looks at no patch.`;
  const top = cells.reduce((best, cell) => (cell.weight > best.weight ? cell : best));
  const rows = map.length;
  const columns = map[0].length;
  const level = third(top.r, rows, ["upper", "middle", "lower"]);
  const side = third(top.c, columns, ["left", "centre", "right"]);
  const share = Math.round((top.weight / total) * 100);
  return (
    `“${word}” looks most at the ${level} ${side}: row ${top.r + 1} of ${rows}, ` +
    `column ${top.c + 1} of ${columns}, with ${share} % of its weight.`
  );
}

function third(index, count, names) {
  return names[Math.min(2, Math.floor(((index + 0.5) / count) * 3))];
}

function mean(values) {
  const known = values.filter((value) => typeof value === "number");
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}
