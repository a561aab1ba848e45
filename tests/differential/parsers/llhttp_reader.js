// Reads batches of captured bytes from standard input with Node's llhttp, as strict as it is by default, and says what it
// sees. The same protocol as h11_reader.py.
'use strict';

const fs = require('fs');
const binding = process.binding('http_parser');
const { HTTPParser } = binding;
const methods = binding.allMethods || binding.methods;
const HEAD_BYTES = 1 << 20;
const SKIP_BODY = 1;

let input = Buffer.alloc(0);

function exactly(n) {
  if (input.length < n) {
    const pieces = [input];
    let have = input.length;
    while (have < n) {
      const piece = Buffer.allocUnsafe(Math.max(n - have, 65536));
      const got = fs.readSync(0, piece, 0, piece.length, null);
      if (got === 0) process.exit(0);
      pieces.push(piece.subarray(0, got));
      have += got;
    }
    input = Buffer.concat(pieces);
  }
  const taken = input.subarray(0, n);
  input = input.subarray(n);
  return taken;
}

const number = () => exactly(4).readUInt32BE(0);

let messages, current, item;
const parser = new HTTPParser();
parser[HTTPParser.kOnMessageBegin | 0] = () => {};
parser[HTTPParser.kOnHeaders | 0] = (headers, url) => { current.url += url; };
parser[HTTPParser.kOnHeadersComplete | 0] = (major, minor, headers, method, url, status) => {
  current.version = `${major}.${minor}`;
  if (item.isRequest) {
    current.method = methods[method];
    if (url) current.url += url;
    return 0;
  }
  current.method = String(status);
  return item.heads[messages.length] === 0x48 && status >= 200 ? SKIP_BODY : 0;
};
parser[HTTPParser.kOnBody | 0] = (piece) => { current.body.push(Buffer.from(piece)); };
parser[HTTPParser.kOnMessageComplete | 0] = () => {
  if (item.isRequest || Number(current.method) >= 200) messages.push(current);
  current = fresh();
};

function fresh() {
  return { method: '', url: '', version: '', body: [] };
}

function read() {
  messages = [];
  current = fresh();
  parser.initialize(item.isRequest ? HTTPParser.REQUEST : HTTPParser.RESPONSE, {}, HEAD_BYTES, 0);
  let result = parser.execute(item.data);
  if (!(result instanceof Error) && result !== item.data.length) result = new Error('bytes left over');
  if (!(result instanceof Error) && item.closed) result = parser.finish();
  if (result instanceof Error) return `${result.code}: ${result.reason || result.message}`;
  return '';
}

function put(reply, bytes) {
  const length = Buffer.allocUnsafe(4);
  length.writeUInt32BE(bytes.length, 0);
  reply.push(length, bytes);
}

for (;;) {
  const items = [];
  for (let left = number(); left > 0; left--) {
    const isRequest = exactly(1)[0] === 0x51;
    const closed = exactly(1)[0] === 1;
    const heads = exactly(number());
    items.push({ isRequest, closed, heads, data: exactly(number()) });
  }
  const reply = [];
  for (item of items) {
    const error = read();
    const count = Buffer.allocUnsafe(4);
    count.writeUInt32BE(messages.length, 0);
    reply.push(count);
    for (const message of messages) {
      put(reply, Buffer.from(message.method, 'latin1'));
      put(reply, Buffer.from(message.url, 'latin1'));
      put(reply, Buffer.from(message.version, 'latin1'));
      put(reply, Buffer.concat(message.body));
    }
    put(reply, Buffer.from(error, 'latin1'));
  }
  const bytes = Buffer.concat(reply);
  for (let at = 0; at < bytes.length;) at += fs.writeSync(1, bytes, at);
}
