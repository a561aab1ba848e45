"use strict";
(() => {
  const PERIOD_MS = 1000;
  const PATIENCE_MS = 5000;
  // Seconds that the plots show, and those over which a quantile is taken, so that few requests make no jumps.
  const SHOWN = 180;
  const WINDOW = 5;

  const $ = (id) => document.getElementById(id);
  const make = (tag, name, text) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  // What stays the same is left alone, so that a selection or a screen reader's place survives.
  const say = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  // --- how numbers are written ---

  const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const whole = (number) => grouped.format(number);
  const rate = (number) => {
    if (number === null) return "–";
    return number > 0 && number < 9.95 ? number.toFixed(1) : whole(number);
  };
  const seconds = (number) => {
    if (number === null) return "–";
    if (number < 0.00995) return (number * 1e3).toFixed(1) + " ms";
    if (number < 0.9995) return Math.round(number * 1e3) + " ms";
    return number < 9.95 ? number.toFixed(1) + " s" : Math.round(number) + " s";
  };
  const bytes = (number) => {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let unit = 0;
    while (number >= 999.5 && unit < units.length - 1) {
      number /= 1000;
      unit += 1;
    }
    return (unit && number < 9.95 ? number.toFixed(1) : Math.round(number)) + " " + units[unit];
  };
  const percent = (part) => Math.round(part * 100) + " %";
  const plural = (number, word) => number + " " + word + (number === 1 ? "" : "s");
  const span = (seconds) => {
    if (seconds < 120) return plural(Math.max(0, Math.floor(seconds)), "second");
    if (seconds < 7200) return plural(Math.floor(seconds / 60), "minute");
    if (seconds < 172800) return plural(Math.floor(seconds / 3600), "hour");
    if (seconds < 3 * 31557600) return plural(Math.floor(seconds / 86400), "day");
    return plural(Math.floor(seconds / 31557600), "year");
  };

  // --- figures over time ---

  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const samples = [];
  const last = (back = 0) => samples[samples.length - 1 - back];

  // Per second, over the last `back` samples; null before there are two.
  const growth = (of, back = 1) => {
    const before = samples[Math.max(0, samples.length - 1 - back)];
    const now = last();
    const time = now ? now.now - before.now : 0;
    if (time <= 0) return null;
    const old = of(before);
    return old === undefined ? null : Math.max(0, of(now) - old) / time;
  };

  // The duration that a part of all stay within, among those that were counted between two samples.
  const quantile = (part, before, now, of) => {
    const [old, all] = [of(before).counts, of(now).counts];
    const counts = all.map((count, place) => count - old[place]);
    const bounds = of(now).bounds_seconds;
    let left = part * sum(counts);
    if (left <= 0) return null;
    for (let place = 0; place < counts.length; place += 1) {
      if (left <= counts[place] && counts[place] > 0) {
        const low = place ? bounds[place - 1] : 0;
        const high = bounds[place] ?? low;
        return low + (high - low) * (left / counts[place]);
      }
      left -= counts[place];
    }
    return bounds[bounds.length - 1];
  };
  const recent = (part, of, at = samples.length - 1) =>
    at < 1 ? null : quantile(part, samples[Math.max(0, at - WINDOW)], samples[at], of);

  // --- plots ---

  const SVG = "http://www.w3.org/2000/svg";
  const shape = (tag, attributes) => {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };

  // The next larger of 1, 2, 5, 10 and so on.
  const roundUp = (number) => {
    const ten = 10 ** Math.floor(Math.log10(number));
    return [1, 2, 5, 10].map((n) => n * ten).find((n) => n >= number * 0.9999);
  };

  // A plot of series over the last minutes; each has a name, a colour and a history of numbers or null.
  class Plot {
    constructor(id, title, unit, write, least, series, stacked) {
      Object.assign(this, { title, write, least, series, stacked, at: null });
      const figure = $(id);
      const caption = make("figcaption", "", title + " ");
      caption.append(make("span", "", unit));
      this.area = make("div", "plot");
      this.area.tabIndex = 0;
      this.area.setAttribute("role", "img");
      this.svg = shape("svg", { viewBox: "0 0 " + (SHOWN - 1) + " 100", preserveAspectRatio: "none", "aria-hidden": "true" });
      this.scales = [0, 50].map((y) => {
        const label = make("span", "scale");
        label.style.top = y + "%";
        this.svg.append(shape("line", { class: "grid", x1: 0, x2: SHOWN - 1, y1: y, y2: y }));
        return label;
      });
      this.svg.append(shape("line", { class: "grid", x1: 0, x2: SHOWN - 1, y1: 100, y2: 100 }));
      for (const one of series) {
        one.history = [];
        one.fill = shape("path", { class: "fill c-" + one.colour });
        one.stroke = shape("path", { class: "stroke c-" + one.colour });
      }
      // The first is on top: where one above it in the pile is nothing, it is the one to be seen.
      for (const one of [...series].reverse()) this.svg.append(one.fill, one.stroke);
      this.cursor = shape("line", { class: "cursor", y1: 0, y2: 100, visibility: "hidden" });
      this.svg.append(this.cursor);
      this.area.append(this.svg, ...this.scales);
      const axis = make("div", "axis");
      this.when = make("span", "", SHOWN / 60 + " minutes ago");
      axis.append(this.when, make("span", "", "now"));
      const legend = make("ul", "legend");
      for (const one of series) {
        const entry = make("li");
        one.value = make("b", "", "–");
        entry.append(make("span", "swatch c-" + one.colour), make("span", "", one.name), one.value);
        legend.append(entry);
      }
      figure.append(caption, this.area, axis, legend);
      this.area.addEventListener("pointermove", (event) => {
        const box = this.area.getBoundingClientRect();
        this.look(SHOWN - 1 - Math.round(((event.clientX - box.left) / box.width) * (SHOWN - 1)));
      });
      this.area.addEventListener("pointerleave", () => this.look(null));
      this.area.addEventListener("blur", () => this.look(null));
      this.area.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: 1, ArrowRight: -1, Home: SHOWN, End: -SHOWN }[event.key];
        if (event.key === "Escape") this.look(null);
        if (!step) return;
        event.preventDefault();
        this.look((this.at ?? 0) + step);
      });
    }

    // Shows the numbers of so many samples ago; null: the present ones.
    look(at) {
      const most = this.series[0].history.length - 1;
      this.at = at === null ? null : Math.min(Math.max(at, 0), Math.max(most, 0));
      this.write_numbers();
    }

    clear() {
      for (const one of this.series) one.history = [];
    }

    push(numbers) {
      this.series.forEach((one, place) => {
        one.history.push(numbers[place]);
        if (one.history.length > SHOWN) one.history.shift();
      });
      this.draw();
    }

    draw() {
      const length = this.series[0].history.length;
      const base = new Array(length).fill(0);
      const tops = this.series.map((one) => one.history.map((number, place) => {
        if (number === null || !this.stacked) return number;
        base[place] += number;
        return base[place];
      }));
      const most = Math.max(this.least, ...tops.flat().filter((top) => top !== null));
      const scale = roundUp(most);
      say(this.scales[0], this.write(scale));
      say(this.scales[1], this.write(scale / 2));
      const x = (place) => place + SHOWN - length;
      const y = (top) => (100 - (top / scale) * 100).toFixed(2);
      this.series.forEach((one, nth) => {
        let stroke = "";
        let fill = "";
        let from = null;
        tops[nth].forEach((top, place) => {
          const ends = top === null || place === length - 1;
          if (top !== null) {
            stroke += (from === null ? "M" : "L") + x(place) + " " + y(top);
            if (from === null) from = place;
          }
          if (ends && from !== null) {
            const until = top === null ? place - 1 : place;
            const below = (at) => y(this.stacked && nth ? tops[nth - 1][at] : 0);
            for (let at = from; at <= until; at += 1) fill += (at === from ? "M" : "L") + x(at) + " " + y(tops[nth][at]);
            for (let at = until; at >= from; at -= 1) fill += "L" + x(at) + " " + below(at);
            fill += "Z";
            from = null;
          }
        });
        one.stroke.setAttribute("d", stroke);
        one.fill.setAttribute("d", this.stacked || nth === 0 ? fill : "");
      });
      this.write_numbers();
    }

    write_numbers() {
      const { history } = this.series[0];
      const place = history.length - 1 - (this.at ?? 0);
      for (const one of this.series) say(one.value, this.write(one.history[place] ?? null));
      const x = SHOWN - 1 - (this.at ?? 0);
      this.cursor.setAttribute("x1", x);
      this.cursor.setAttribute("x2", x);
      this.cursor.setAttribute("visibility", this.at === null ? "hidden" : "visible");
      const when = this.at === null ? "now" : plural(this.at, "second") + " ago";
      say(this.when, this.at === null ? SHOWN / 60 + " minutes ago" : "at the line: " + when);
      const numbers = this.series.map((one) => one.name + " " + one.value.textContent);
      this.area.setAttribute("aria-label", this.title + ", " + when + ": " + numbers.join(", ") + ". Arrow keys look back.");
    }
  }

  const plots = {
    rate: new Plot("plot-rate", "Answers", "per second, by class of their status", rate, 1, [
      { name: "2xx, 3xx", colour: "blue" },
      { name: "4xx", colour: "amber" },
      { name: "5xx", colour: "red" },
    ], true),
    time: new Plot("plot-time", "Time", "from a request to the end of its answer", seconds, 0.001, [
      { name: "half within", colour: "blue" },
      { name: "95 %", colour: "violet" },
      { name: "99 %", colour: "muted" },
    ], false),
    logins: new Plot("plot-logins", "Logins", "per second, by how they ended", rate, 1, [
      { name: "succeeded", colour: "green" },
      { name: "failed", colour: "red" },
      { name: "aborted", colour: "muted" },
    ], true),
  };

  // --- tables ---

  // Has a table show rows: each an array of cells, the first of which names it. A cell is a text, or an object with a text and
  // more: a class, a smaller line below it, a bar.
  const fill = (id, rows) => {
    const table = $(id);
    const body = table.tBodies[0];
    const labels = Array.from(table.tHead.rows[0].cells, (cell) => cell.textContent);
    table.parentElement.classList.toggle("none", rows.length === 0);
    while (body.rows.length > rows.length) body.deleteRow(-1);
    rows.forEach((cells, nth) => {
      const row = body.rows[nth] ?? body.insertRow();
      cells.forEach((given, place) => {
        let cell = row.cells[place];
        if (!cell) {
          cell = make(place === 0 ? "th" : "td");
          if (place === 0) cell.scope = "row";
          cell.dataset.label = labels[place];
          cell.append(make("span"));
          row.append(cell);
        }
        put(cell.firstChild, typeof given === "object" ? given : { text: given });
      });
    });
  };
  const put = (place, { text, name = "", sub = "", part }) => {
    const shown = JSON.stringify([text, name, sub, part ?? null]);
    if (place.dataset.shown === shown) return;
    place.dataset.shown = shown;
    if (part === undefined) {
      place.className = name;
      place.textContent = text;
    } else {
      place.className = "bar";
      place.toggleAttribute("data-high", part >= 0.9);
      const track = make("i");
      const bar = make("i");
      bar.style.width = Math.min(100, part * 100) + "%";
      track.append(bar);
      place.replaceChildren(track, make("span", "", text));
      track.setAttribute("aria-hidden", "true");
    }
    if (sub) place.append(make("span", "sub", sub));
  };

  const WORDS = { critical: "Critical", warning: "Warning", notice: "Notice" };
  let announced = null;
  const attention = (findings) => {
    const level = findings.length ? findings[0].level : "none";
    $("attention").dataset.level = level;
    const things = findings.filter((finding) => finding.level !== "notice").length;
    let title = "Nothing needs attention";
    if (things) title = things === 1 ? "One thing needs attention" : things + " things need attention";
    say($("attention-title"), title);
    const list = $("findings");
    while (list.children.length > findings.length) list.lastChild.remove();
    findings.forEach((finding, nth) => {
      let entry = list.children[nth];
      if (!entry) {
        entry = make("li");
        entry.append(make("span"), make("span"), make("span", "advice"));
        list.append(entry);
      }
      entry.children[0].className = "word " + finding.level;
      say(entry.children[0], WORDS[finding.level]);
      say(entry.children[1], finding.text);
      say(entry.children[2], finding.advice);
    });
    // Said aloud only when there is something new; the texts count seconds.
    const about = JSON.stringify(findings.map((finding) => finding.about));
    if (announced !== null && announced !== about) say($("announce"), title);
    announced = about;
    document.title = (things ? "(" + things + ") " : "") + "ntlmfront " + last().host;
  };

  const STATES = { up: "up", full: "full", failed: "failed", down: "down" };
  const FITS = { same: "yes", different: "no", unknown: "not known" };
  const expiry = (expires, now) => {
    const left = expires - now;
    const days = Math.floor(left / 86400);
    const name = left < 0 || days < 7 ? "expired" : days < 30 ? "soon" : "";
    const date = new Date(expires * 1000).toISOString().slice(0, 10);
    return { text: date, name, sub: left < 0 ? "expired" : "in " + span(left) };
  };
  const age = (ages, place) => {
    const text = (seconds) => (seconds < 3600 ? seconds / 60 + " min" : seconds / 3600 + " h");
    if (place === 0) return "up to " + text(ages[0]);
    if (place === ages.length) return "over " + text(ages[place - 1]);
    return text(ages[place - 1]) + " – " + text(ages[place]);
  };

  // --- one look ---

  const show = (now) => {
    const { requests, pins } = now;
    const before = last(1);
    say($("host"), now.host);
    say($("facts"), ["version " + now.version, now.driver, plural(now.workers.length, "worker"), "up " + span(now.now - now.started)].join(" · "));
    attention(now.findings);

    const classes = [0, 1, 2, 3, 4].map((place) => growth((sample) => sample.requests.answers[place], 2));
    const answers = classes[0] === null ? null : sum(classes);
    const errors = classes[4];
    const time = (sample) => sample.requests.time;
    const clients = (worker) => worker.idle + worker.pinned + worker.reading + worker.answering;
    const held = sum(pins.groups.map((group) => group.handshaking + group.active + group.idle));
    const handshaking = sum(pins.groups.map((group) => group.handshaking));
    const ended = (end) => (sample) => sum(sample.logins.map((scheme) => scheme[end]));
    const failed = growth(ended("failed"), 2);
    tile("Requests/s", rate(answers), whole(requests.number) + " so far");
    tile("Half within", seconds(recent(0.5, time)), "servers: " + seconds(recent(0.5, (sample) => sample.upstream_time)));
    tile("95 % within", seconds(recent(0.95, time)), "servers: " + seconds(recent(0.95, (sample) => sample.upstream_time)));
    tile("Errors (5xx)/s", rate(errors), whole(requests.answers[4]) + " so far");
    tile("Clients", whole(sum(now.workers.map(clients))), now.turned_away ? whole(now.turned_away) + " turned away so far" : whole(now.accepted) + " so far");
    tile("Logins held", whole(held), handshaking ? whole(handshaking) + " of them begin" : whole(pins.created) + " so far");
    tile("Logins failed/s", rate(failed), whole(ended("failed")(now)) + " of " + whole(ended("failed")(now) + ended("succeeded")(now)) + " so far");
    const received = growth((sample) => sample.requests.received_bytes, 2);
    const sent = growth((sample) => sample.requests.sent_bytes, 2);
    tile("Sent/s", sent === null ? "–" : bytes(sent), received === null ? "" : bytes(received) + " received");
    handshakes(now);

    if (before) {
      // Nothing is known of the seconds that nobody looked at.
      const missed = Math.min(SHOWN, Math.round(now.now - before.now) - 1);
      for (let nth = 0; nth < missed; nth += 1) Object.values(plots).forEach((plot) => plot.push([null, null, null]));
      const one = (place) => growth((sample) => sample.requests.answers[place]) ?? 0;
      plots.rate.push([one(1) + one(2), one(3), one(4)]);
      plots.time.push([recent(0.5, time), recent(0.95, time), recent(0.99, time)]);
      plots.logins.push(["succeeded", "failed", "aborted"].map((end) => growth(ended(end))));
    }

    fill("pins", pins.groups.map((group) => [
      { text: group.upstream || "others" },
      whole(group.handshaking),
      whole(group.active),
      whole(group.idle),
      group.idle_limit && group.upstream
        ? { text: whole(group.idle_most) + " of " + whole(group.idle_limit), part: group.idle_most / group.idle_limit }
        : "–",
      { text: whole(group.evicted), name: group.evicted ? "warning word" : "" },
    ]));
    const total = (of, place) => sum(pins.groups.map((group) => group[of][place]));
    fill("ages", [0, 1, 2, 3, 4].map((place) => [
      age(pins.ages_seconds, place),
      whole(total("ages_established", place)),
      whole(total("ages_handshaking", place)),
    ]));
    fill("ended", pins.ended.length ? pins.ended.map(([reason, number]) => [reason.replaceAll("_", " "), whole(number)]) : [["none so far", "0"]]);

    fill("logins", now.logins.filter(({ succeeded, failed, aborted }) => succeeded + failed + aborted).map((logins) => [
      logins.scheme,
      whole(logins.succeeded),
      { text: whole(logins.failed), name: logins.failed ? "warning" : "" },
      whole(logins.aborted),
    ]));

    fill("servers", now.upstreams.flatMap((upstream, nth) => upstream.servers.map((server, place) => {
      const same = (sample) => sample.upstreams[nth]?.servers[place];
      const of = (read) => (sample) => {
        const found = same(sample);
        return found && found.name === server.name ? read(found) : undefined;
      };
      const answered = growth(of((found) => sum(found.answers)), WINDOW);
      const took = growth(of((found) => found.header_seconds), WINDOW);
      const workers = server.workers < now.workers.length ? server.workers + " of " + plural(now.workers.length, "worker") : "";
      return [
        { text: upstream.name, name: place ? "again" : "" },
        { text: server.name, sub: server.backup ? "backup" : "" },
        { text: STATES[server.state], name: "word " + server.state, sub: server.state === "up" ? "" : workers },
        rate(answered),
        seconds(answered ? took / answered : null),
        { text: whole(server.active), sub: server.idle ? whole(server.idle) + " idle" : "" },
        whole(server.answers[4]),
        { text: whole(server.failures), sub: server.failed_at ? "last " + span(now.now - server.failed_at) + " ago" : "" },
      ];
    })));

    fill("bindings", now.bindings.map((binding) => [
      { text: binding.server || "–" },
      { text: binding.peer === "all" ? "all" : binding.peer, sub: binding.upstream },
      { text: FITS[binding.state], name: "word " + binding.state, sub: binding.reason },
      binding.shown ? binding.shown[0] : "–",
      binding.shown ? expiry(binding.shown[1], now.now) : "–",
    ]));
    fill("certificates", now.certificates.map((shown) => [
      { text: shown.server || "–" },
      shown.subject,
      expiry(shown.expires, now.now),
    ]));

    fill("workers", now.workers.map((worker, nth) => {
      const load = growth((sample) => sample.workers[nth].cpu_seconds, 2);
      const used = clients(worker) + worker.upstream_connections;
      return [
        String(nth),
        load === null ? "–" : { text: percent(load), part: load },
        rate(growth((sample) => sample.workers[nth].requests, 2)),
        whole(clients(worker)),
        whole(worker.pinned),
        whole(worker.upstream_connections),
        { text: whole(used) + " of " + whole(now.connections_limit), part: used / now.connections_limit },
      ];
    }));
    fill("refusals", requests.refusals.map(([reason, number]) => [reason, whole(number)]));
    $("main").hidden = false;
  };

  const handshakes = ({ handshakes }) => {
    const with_whom = (side, whom) => {
      const [done, resumed, failed] = ["", "_resumed", "_failed"].map((kind) => handshakes[side + kind]);
      if (!done && !failed) return "";
      const each = rate(growth((sample) => sample.handshakes[side], 2));
      return "Handshakes with " + whom + ": " + each + "/s, " + percent(resumed / Math.max(1, done)) + " resumed, " + whole(failed) + " failed so far. ";
    };
    say($("handshakes"), with_whom("client", "clients") + with_whom("upstream", "servers"));
  };

  const tiles = new Map();
  const tile = (title, text, sub) => {
    let known = tiles.get(title);
    if (!known) {
      const box = make("div");
      const number = make("dd");
      known = { text: make("span"), sub: make("small") };
      number.append(known.text, known.sub);
      box.append(make("dt", "", title), number);
      $("tiles").append(box);
      tiles.set(title, known);
    }
    say(known.text, text);
    say(known.sub, sub);
  };

  // --- looking every second ---

  let paused = false;
  let lost = null;
  const live = (state, text) => {
    $("live").dataset.state = state;
    say($("live-text"), text);
  };
  const look = async () => {
    try {
      const answer = await fetch("?format=json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
      if (!answer.ok) throw new Error("answered with " + answer.status);
      const now = await answer.json();
      if (samples.length && (last().started !== now.started || last().workers.length !== now.workers.length)) {
        // Another process: what it counts began anew.
        samples.length = 0;
        Object.values(plots).forEach((plot) => plot.clear());
      }
      samples.push(now);
      if (samples.length > WINDOW + 2) samples.shift();
      show(now);
      lost = null;
      live("live", "live");
    } catch (error) {
      lost ??= new Date();
      live("lost", "no answer since " + lost.toLocaleTimeString("en-GB") + ", trying again");
    }
  };
  const next = async () => {
    const began = performance.now();
    if (!paused && !document.hidden) await look();
    if (paused) live("paused", "paused");
    setTimeout(next, Math.max(50, PERIOD_MS - (performance.now() - began)));
  };
  $("pause").addEventListener("click", () => {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", String(paused));
    say($("pause"), paused ? "Go on" : "Pause");
    live(paused ? "paused" : "waiting", paused ? "paused" : "connecting");
  });
  next();
})();
