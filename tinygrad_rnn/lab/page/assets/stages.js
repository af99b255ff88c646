// How a step becomes kernels: the program after each pass.

class Stages {
  constructor(loops) {
    this.loops = loops;
  }

  open() {}
}
