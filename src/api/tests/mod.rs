mod canonical;
mod crd;
mod rules;
mod validated;
