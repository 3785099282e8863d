import assert from "node:assert/strict";
import { test } from "node:test";

import { Backoff } from "../src/backoff.ts";
import { ACK_STEP, Acknowledger, INPUT_LIMIT, InputPacer } from "../src/flow.ts";
import { tokenFromFragment, withoutFragment } from "../src/fragment.ts";
import { afterClose, describeExit, parseNotice } from "../src/protocol.ts";
import { describeTimeLeft } from "../src/time-left.ts";

test("the secret is read from the fragment and taken out of the address", () => {
  assert.equal(tokenFromFragment("#token=abc-DEF_123"), "abc-DEF_123");
  assert.equal(tokenFromFragment("#x=1&token=a%2Bb"), "a+b");
  assert.equal(tokenFromFragment("#token="), undefined);
  assert.equal(tokenFromFragment(""), undefined);
  assert.equal(withoutFragment("http://127.0.0.1:8081/?a=1#token=abc"), "http://127.0.0.1:8081/?a=1");
  assert.equal(withoutFragment("http://127.0.0.1:8081/"), "http://127.0.0.1:8081/");
});

test("what was drawn is acknowledged in steps and in full", () => {
  const acknowledged: number[] = [];
  const acknowledger = new Acknowledger((bytes) => acknowledged.push(bytes));
  acknowledger.drawn(ACK_STEP - 1);
  assert.deepEqual(acknowledged, []);
  acknowledger.drawn(2);
  acknowledger.drawn(3 * ACK_STEP);
  assert.deepEqual(acknowledged, [ACK_STEP + 1, 3 * ACK_STEP]);
});

test("a new connection acknowledges nothing of the last one", () => {
  const acknowledged: number[] = [];
  const acknowledger = new Acknowledger((bytes) => acknowledged.push(bytes));
  acknowledger.drawn(ACK_STEP - 1);
  acknowledger.reset();
  acknowledger.drawn(ACK_STEP - 1);
  assert.deepEqual(acknowledged, []);
});

test("a large paste is sent in order, and no more at once than the limit", () => {
  const paste = Uint8Array.from({ length: 3 * INPUT_LIMIT + 5 }, (_, index) => index % 251);
  const sent: number[] = [];
  let inFlight = 0;
  const pacer = new InputPacer((bytes) => {
    sent.push(...bytes);
    inFlight += bytes.length;
    assert.ok(inFlight <= INPUT_LIMIT);
  });
  pacer.push(paste);
  pacer.push(Uint8Array.of(7));
  while (sent.length < paste.length + 1) {
    assert.ok(inFlight > 0, "the pacer never stalls while everything was acknowledged");
    const acknowledged = Math.min(inFlight, 16 * 1024);
    inFlight -= acknowledged;
    pacer.acknowledged(acknowledged);
  }
  assert.deepEqual(Uint8Array.from(sent), Uint8Array.from([...paste, 7]));
});

test("input that is acknowledged twice opens no more room than there is", () => {
  const sent: number[] = [];
  const pacer = new InputPacer((bytes) => sent.push(bytes.length));
  pacer.acknowledged(10 * INPUT_LIMIT);
  pacer.push(new Uint8Array(2 * INPUT_LIMIT));
  assert.deepEqual(sent, [INPUT_LIMIT]);
});

test("input for a shell that is no more is dropped", () => {
  const sent: number[] = [];
  const pacer = new InputPacer((bytes) => sent.push(bytes.length));
  pacer.push(new Uint8Array(2 * INPUT_LIMIT));
  pacer.reset();
  pacer.push(Uint8Array.of(1));
  assert.deepEqual(sent, [INPUT_LIMIT, 1]);
});

test("delays double up to a limit and begin anew after success", () => {
  const backoff = new Backoff(() => 0.5);
  const delays = Array.from({ length: 8 }, () => backoff.next());
  assert.deepEqual(delays, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
  backoff.reset();
  assert.equal(backoff.next(), 250);
  assert.equal(new Backoff(() => 0).next(), 187.5);
});

test("notices are read, and what is none is passed over", () => {
  assert.deepEqual(parseNotice('{"type":"ack","bytes":3}'), { type: "ack", bytes: 3 });
  assert.deepEqual(parseNotice('{"type":"status","state":"booting","message":"m"}'), {
    type: "status",
    state: "booting",
    message: "m",
  });
  for (const text of ["", "{", "null", "7", '"ack"', "{}", '{"type":"news"}']) {
    assert.equal(parseNotice(text), undefined, text);
  }
});

test("a dropped network reconnects, an ended shell waits for the learner", () => {
  for (const code of [1001, 1006, 1011, 1012]) {
    assert.equal(afterClose(code), "reconnect", String(code));
  }
  for (const code of [1000, 1007, 1009, 1013, 4001]) {
    assert.equal(afterClose(code), "new-shell-on-request", String(code));
  }
});

test("the end of a shell is told with its status or signal", () => {
  assert.equal(describeExit({ status: 0, signal: null }), "The shell ended.");
  assert.equal(describeExit({ status: 3, signal: null }), "The shell ended with status 3.");
  assert.equal(describeExit({ status: null, signal: "HUP" }), "The shell was killed by SIGHUP.");
  assert.equal(describeExit({ status: null, signal: null }), "The shell ended.");
});

test("the time left is told in the unit that matters", () => {
  assert.equal(describeTimeLeft(3 * 3600 + 5 * 60 + 59), "3 h 05 min left");
  assert.equal(describeTimeLeft(3599), "59 min left");
  assert.equal(describeTimeLeft(59.2), "60 s left");
  assert.equal(describeTimeLeft(12), "20 s left");
  assert.equal(describeTimeLeft(0), "ended");
  assert.equal(describeTimeLeft(-5), "ended");
});
