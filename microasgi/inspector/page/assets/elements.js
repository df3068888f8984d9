// What the page is made of. All text comes from clients and apps: it goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with these attributes and children. Strings among the children are text; what is null or false is left out. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for drawings. */
export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** The element of the page with this id. */
export function named(id) {
  return document.getElementById(id);
}

/** Put these in place of all that an element has. */
export function fill(parent, ...children) {
  parent.replaceChildren(...children.flat().filter(Boolean));
}
