mod pictures;
mod planning;
mod scene;
mod waiting;
