// Renders /openapi.json without anything from elsewhere.
function make(tag, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children.filter((child) => child !== null));
  return element;
}

function resolve(api, schema) {
  return schema?.$ref ? schema.$ref.slice(2).split("/").reduce((node, key) => node[key], api) : schema ?? {};
}

function typeOf(api, schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map((one) => typeOf(api, one)).join(" | ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.type === "array") return `${typeOf(api, schema.items)}[]`;
  return [schema.type, schema.format].filter(Boolean).join(" ") || "any";
}

function table(api, caption, rows) {
  if (!rows.length) return null;
  const cells = ([name, schema, required, text]) =>
    make("tr", {}, make("th", { scope: "row", textContent: name + (required ? " *" : "") }), make("td", { textContent: typeOf(api, schema) }), make("td", { textContent: text ?? schema?.description ?? "" }));
  return make("table", {}, make("caption", { textContent: caption }), make("tbody", {}, ...rows.map(cells)));
}

function fields(api, caption, schema) {
  const { properties = {}, required = [] } = resolve(api, schema);
  return table(api, caption, Object.entries(properties).map(([name, one]) => [name, one, required.includes(name)]));
}

function example(api, body) {
  const [media] = Object.values(body?.content ?? {});
  const shown = media?.example ?? Object.values(media?.examples ?? {})[0]?.value ?? resolve(api, media?.schema).examples?.[0];
  return shown ? make("pre", { textContent: JSON.stringify(shown, null, 2), tabIndex: 0 }) : null;
}

function operation(api, path, method, about) {
  const summary = make("summary", {}, make("b", { textContent: method.toUpperCase() }), ` ${path} `, make("span", { className: "context", textContent: (about.description ?? about.summary ?? "").split("\n")[0] }));
  const parameters = (about.parameters ?? []).map((one) => [`${one.name} (${one.in})`, one.schema, one.required, one.description]);
  const [type, media] = Object.entries(about.requestBody?.content ?? {})[0] ?? [];
  const answers = Object.entries(about.responses).map(([status, one]) => {
    const [kind, content] = Object.entries(one.content ?? {})[0] ?? [];
    return [status, content?.schema ?? { type: kind ?? "" }, false, one.description];
  });
  const good = Object.values(about.responses).map((one) => one.content?.["application/json"]?.schema).find(Boolean);
  return make("details", {}, summary, table(api, "Parameters", parameters), type ? fields(api, `Body: ${type}`, media.schema) : null, example(api, about.requestBody), table(api, "Answers", answers), good ? fields(api, "Fields of the answer", good) : null, example(api, about.responses["200"]));
}

const api = await (await fetch("/openapi.json")).json();
document.getElementById("version").textContent = `version ${api.info.version}`;
document.getElementById("description").textContent = api.info.description.replace(/([^\n])\n(?!\n)/g, "$1 ").replaceAll("`", "");
for (const tag of api.tags) {
  const found = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).filter(([, about]) => about.tags?.includes(tag.name)).map(([method, about]) => operation(api, path, method, about)));
  if (found.length) document.getElementById("paths").append(make("section", {}, make("h2", { textContent: tag.name }), make("p", { className: "context", textContent: tag.description }), ...found));
}
