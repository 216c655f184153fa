// What the page is about at this moment. Views read it and are told when it changes.

export const session = {
  answer: null, // the Reprompt JSON on show
  edited: null, // the prompt as edited by hand; null: as written
  stale: false, // the words have changed since
  asking: false, // an answer is on its way
  generation: null, // the generation on show
};

const views = [];

/** Calls a view after every change, with what was changed. */
export function whenChanged(view) {
  views.push(view);
}

export function change(values) {
  Object.assign(session, values);
  for (const view of views) view(values);
}
