// A browser keeps six connections to a host. Each page's news take one, so a page that nobody sees lets go of its own:
// else the seventh page would not open. Seen again, it is told at once how things are now.
const PATIENCE_MS = 3000;

export class NewsWhileSeen {
  listeners = [];

  constructor(url) {
    this.url = url;
    document.addEventListener("visibilitychange", this.look);
    if (!document.hidden) this.open();
  }

  look = () => {
    clearTimeout(this.waits);
    if (document.hidden) this.waits = setTimeout(() => this.letGo(), PATIENCE_MS);
    else this.open();
  };

  open() {
    if (this.source) return;
    this.source = new EventSource(this.url);
    this.source.onopen = (event) => this.onopen?.(event);
    this.source.onerror = (event) => {
      this.onerror?.(event);
      if (event.target.readyState === EventSource.CLOSED) this.close(); // for good: who uses it begins another
    };
    for (const [type, listener] of this.listeners) this.source.addEventListener(type, listener);
  }

  letGo() {
    this.source?.close();
    this.source = undefined;
  }

  get readyState() {
    return this.source?.readyState ?? EventSource.CONNECTING;
  }

  addEventListener(type, listener) {
    this.listeners.push([type, listener]);
    this.source?.addEventListener(type, listener);
  }

  removeEventListener(type, listener) {
    this.listeners = this.listeners.filter(([known, one]) => known !== type || one !== listener);
    this.source?.removeEventListener(type, listener);
  }

  close() {
    clearTimeout(this.waits);
    document.removeEventListener("visibilitychange", this.look);
    this.source?.close();
  }
}
