// Fills the live panels: `<div class="live-panel" data-step="2">`. Only where `cargo learn` serves the
// book, which it says on the <html> element; elsewhere the text in the panel stays as it is.
{
  const LATER_MS = 3000;
  const SOON_MS = 700;
  const LET_GO_MS = 400;

  const FAULTS = [
    { action: "cut", wire: "cut", label: "cut", says: "wire cut: the connection is gone, and with it what was under way. New ones are refused until you mend it." },
    { action: "stall", wire: "stalled", label: "stall", says: "wire stalled: bytes wait, nothing is lost." },
    { action: "slow", wire: "slow", label: "slow", says: "wire slow: 64 bytes a second pass in each direction." },
    { action: "mend", wire: "whole", label: "mend", says: "wire whole: bytes pass as they come." },
  ];

  /** `make("p", { className: "x" }, child, "text")` */
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  const post = async (path) => {
    const response = await fetch(path, { method: "POST" });
    if (!response.ok) throw new Error(await response.text());
  };

  /** One client: a frame, the buttons of its wire, and what is wrong with it in words. */
  class Client {
    constructor(panel, { client, title, url, signs_in: signsIn }) {
      this.panel = panel;
      this.client = client;
      this.title = title;
      this.url = url;
      this.signsIn = signsIn;
      this.trouble = "";
      this.frame = make("iframe", { title: `Milestone ${panel.step}, the client of ${title}`, loading: "lazy" });
      this.buttons = FAULTS.map((fault) => this.button(fault, title));
      this.state = make("p", { className: "live-state" });
      this.state.setAttribute("role", "status");
      const wire = make("div", { className: "live-wire" }, ...this.buttons);
      wire.setAttribute("role", "group");
      wire.setAttribute("aria-label", `The wire of ${title}`);
      this.element = make("div", { className: "live-client" }, make("h4", {}, title), this.frame, wire, this.state);
      this.show("whole");
      this.open();
    }

    /** Shows the page. Where a cookie says who somebody is, the book has it set first. */
    async open() {
      this.trouble = "";
      if (this.signsIn) await this.signIn();
      this.frame.src = this.url;
    }

    async signIn() {
      try {
        await post(`/learn/sign-in/${this.panel.step}/${this.client}`);
      } catch (error) {
        this.trouble = `The book can't sign ${this.title} in: ${error.message}. Sign up under another name.`;
        this.show(this.state.dataset.wire);
      }
    }

    button({ action, label, wire }, title) {
      const button = make("button", { type: "button", onclick: () => this.press(action) }, label);
      button.dataset.wire = wire;
      button.title = `${label} the wire of ${title}`;
      return button;
    }

    async press(action) {
      try {
        await post(`/learn/wire/${this.panel.step}/${this.client}/${action}`);
        this.show(FAULTS.find((fault) => fault.action === action).wire);
      } catch (error) {
        this.state.textContent = `That did not work: ${error.message}`;
      }
    }

    show(wire) {
      for (const button of this.buttons) {
        button.setAttribute("aria-pressed", String(button.dataset.wire === wire));
      }
      const says = this.trouble || (FAULTS.find((fault) => fault.wire === wire)?.says ?? "");
      this.state.dataset.wire = wire;
      if (this.state.textContent !== says) this.state.textContent = says;
    }

    /** Leaves, so that the name is free again, and comes back. */
    async startOver() {
      await this.press("mend");
      this.frame.src = "about:blank";
      await new Promise((resolve) => setTimeout(resolve, LET_GO_MS));
      await this.open();
    }
  }

  class Panel {
    constructor(element) {
      this.element = element;
      this.step = Number(element.dataset.step);
      this.clients = [];
      this.shown = "";
      this.state = make("p");
      this.state.setAttribute("role", "status");
      this.button = make("button", { type: "button", hidden: true }, "start over");
      this.head = make("div", { className: "live-head" }, this.state, this.button);
      this.body = make("div");
      element.replaceChildren(this.head, this.body);
    }

    /** Shows what `cargo learn` says of this milestone. */
    show(step) {
      this.state.textContent = step.words;
      // Another `cargo learn` has other wires, though its milestones are in the same life as before.
      const life = [step.state, step.life, ...step.clients.map(({ url }) => url)].join(" ");
      if (life !== this.shown) {
        this.shown = life;
        step.state === "running" ? this.showClients(step) : this.showReason(step);
      }
      step.clients.forEach((client, index) => this.clients[index]?.show(client.wire));
    }

    showClients(step) {
      this.clients = step.clients.map((client) => new Client(this, client));
      const elements = this.clients.map((client) => client.element);
      this.body.replaceChildren(make("div", { className: "live-clients" }, ...elements));
      this.offer("start over", () => Promise.all(this.clients.map((client) => client.startOver())));
      // A wire that an earlier page left broken is mended, or this page would begin half dead.
      step.clients.forEach(({ wire }, index) => {
        if (wire !== "whole") this.clients[index].startOver();
      });
    }

    showReason(step) {
      this.clients = [];
      this.body.replaceChildren();
      this.button.hidden = true;
      if (step.reason) this.body.append(make("pre", { className: "live-reason" }, step.reason));
      if (step.state === "failed") this.offer("start it again", () => post(`/learn/restart/${this.step}`));
    }

    offer(label, action) {
      this.button.textContent = label;
      this.button.hidden = false;
      this.button.onclick = async () => {
        this.button.disabled = true;
        try {
          await action();
        } catch (error) {
          this.state.textContent = `That did not work: ${error.message}`;
        }
        this.button.disabled = false;
      };
    }

    gone() {
      this.shown = "";
      this.state.textContent = "cargo learn has stopped. Start it again, and this panel comes back to life.";
      this.showReason({ state: "gone" });
    }
  }

  /** One panel for each milestone; a second one would fight over the names of the first. */
  const findPanels = () => {
    const panels = new Map();
    for (const element of document.querySelectorAll(".live-panel[data-step]")) {
      const step = Number(element.dataset.step);
      if (panels.has(step)) element.replaceChildren(make("p", {}, `Milestone ${step} runs further up on this page.`));
      else panels.set(step, new Panel(element));
    }
    return [...panels.values()];
  };

  const update = async (panels) => {
    try {
      const { steps } = await (await fetch("/learn/panels.json")).json();
      for (const panel of panels) {
        const step = steps.find(({ step }) => step === panel.step);
        panel.show(step ?? { state: "absent", words: `Milestone ${panel.step} does not run here: it does not exist yet, or the book is served without the milestones.`, life: 0, clients: [] });
      }
      return steps.every(({ state }) => state === "running");
    } catch {
      panels.forEach((panel) => panel.gone());
      return false;
    }
  };

  const watch = async (panels) => {
    const settled = document.hidden || (await update(panels));
    setTimeout(watch, settled ? LATER_MS : SOON_MS, panels);
  };

  const served = document.documentElement.hasAttribute("data-cargo-learn");
  const isPrintPage = location.pathname.endsWith("/print.html");
  if (served && !isPrintPage) {
    const panels = findPanels();
    if (panels.length > 0) watch(panels);
  }
}
