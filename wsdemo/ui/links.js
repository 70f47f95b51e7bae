() => {
  // The address says what is on screen: ?lora=… or ?tab=… with what was drawn there.
  const slug = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
  const go = (query) =>
    window.history.replaceState(null, "", window.location.pathname + (query ? "?" + query : ""));
  // Slashes, colons and commas may stand in a query as they are, and are easier to read so.
  const escape = (text) =>
    encodeURIComponent(text).replace(/%2F/g, "/").replace(/%3A/g, ":").replace(/%2C/g, ",");
  const reference = () =>
    (document.querySelector("#hub-reference textarea, #hub-reference input")?.value || "").trim();

  window.wsdemoAddress = (tab, names, values) => {
    const pairs = names.map((name, i) => [name, values[i]]).filter(
      ([, value]) => value !== null && value !== "any" && !(Array.isArray(value) && !value.length));
    go(["tab=" + tab, ...pairs.map(([n, v]) => n + "=" + escape(String(v)))].join("&"));
  };

  const looked = () => { if (reference()) go("lora=" + escape(reference())); };
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#hub-look, #hub-fetch, #hub-login")) looked();
    const tab = event.target.closest?.("button[role=tab]");
    if (!tab) return;
    const name = slug(tab.textContent);
    if (name === "lora-evaluator" && reference()) looked();
    else if (!new URLSearchParams(window.location.search).get("lora") || isOutermost(tab))
      go("tab=" + name);
  }, true);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.closest?.("#hub-reference")) looked();
  }, true);

  // Sub-tabs of a LoRA's report keep its address.
  const isOutermost = (tab) => {
    const list = tab.closest("[role=tablist]");
    return list === document.querySelector("[role=tablist]");
  };
}
