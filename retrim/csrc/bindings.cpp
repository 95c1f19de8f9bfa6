// The only file that knows Python.  Arguments were checked by retrim.runtime.matrix; what is
// checked again here is what a kernel's memory safety rests on.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "linear.hpp"

namespace nb = nanobind;

namespace {

template <typename T>
using Column = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Input = nb::ndarray<const float, nb::ndim<2>, nb::device::cpu>;
using Output = nb::ndarray<float, nb::ndim<2>, nb::device::cpu>;

// A packed layer; it keeps the arrays alive that it points into.
class Matrix {
 public:
  Matrix(Column<int32_t> starts, Column<int32_t> columns, std::optional<Column<int32_t>> rows,
         Column<float> values, Column<float> bias, Column<int64_t> panel_values, int64_t outputs,
         int64_t inputs, int64_t height, int64_t packed_rows, int activation)
      : starts_(starts), columns_(columns), rows_(rows), values_(values), bias_(bias), panels_(panel_values) {
    const bool fits = height > 0 && starts.shape(0) == size_t((packed_rows + height - 1) / height + 1) &&
                      columns.shape(0) == size_t(starts.data()[starts.shape(0) - 1]) &&
                      (!rows || rows->shape(0) == size_t(packed_rows)) &&
                      bias.shape(0) == size_t(packed_rows) &&
                      panel_values.shape(0) == size_t(packed_rows / 32 + 1) &&
                      values.shape(0) == size_t(panel_values.data()[packed_rows / 32]);
    if (!fits) throw std::invalid_argument("the sections of a pack must fit together");
    layer_ = {starts.data(), columns.data(), rows ? rows->data() : nullptr, values.data(), bias.data(),
              panel_values.data(), outputs, inputs, height, packed_rows,
              static_cast<retrim::Activation>(activation)};
  }

  void apply(Input x, Output y, int isa, int threads) const {
    int count = 0;
    const retrim::Isa* all = retrim::isas(&count);
    if (isa < 0 || isa >= count || !all[isa].available())
      throw std::invalid_argument("the instruction set must be one that this processor has");
    const bool fits = x.shape(1) == size_t(layer_.inputs) && y.shape(1) == size_t(layer_.outputs) &&
                      x.shape(0) == y.shape(0) && (x.shape(1) == 1 || x.stride(1) == 1) &&
                      (y.shape(1) == 1 || y.stride(1) == 1);
    if (!fits) throw std::invalid_argument("x and y must fit the layer, with unit stride along features");
    nb::gil_scoped_release release;
    retrim::linear(all[isa], layer_, x.data(), x.stride(0), y.data(), y.stride(0), int64_t(x.shape(0)),
                   threads);
  }

 private:
  Column<int32_t> starts_, columns_;
  std::optional<Column<int32_t>> rows_;
  Column<float> values_, bias_;
  Column<int64_t> panels_;
  retrim::Linear layer_;
};

}  // namespace

NB_MODULE(_core, m) {
  nb::class_<Matrix>(m, "Matrix")
      .def(nb::init<Column<int32_t>, Column<int32_t>, std::optional<Column<int32_t>>, Column<float>,
                    Column<float>, Column<int64_t>, int64_t, int64_t, int64_t, int64_t, int>(),
           nb::arg("starts"), nb::arg("columns"), nb::arg("rows").none(), nb::arg("values"), nb::arg("bias"),
           nb::arg("panel_values"), nb::arg("outputs"), nb::arg("inputs"), nb::arg("height"),
           nb::arg("packed_rows"), nb::arg("activation"))
      .def("apply", &Matrix::apply, nb::arg("x").noconvert(), nb::arg("y").noconvert(),
           nb::arg("isa"), nb::arg("threads"));
  m.def("isas", [] {
    int count = 0;
    const retrim::Isa* all = retrim::isas(&count);
    std::vector<std::pair<std::string, bool>> names;
    for (int i = 0; i < count; i++) names.emplace_back(all[i].name, all[i].available());
    return names;
  });
}
