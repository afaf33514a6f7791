mod canonical;
mod crd;
mod edge;
mod rules;
mod validated;
