mod pictures;
mod scene;
mod waiting;
