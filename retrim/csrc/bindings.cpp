// The only file that knows Python.  Arguments were checked by retrim.runtime.matrix; what is
// checked again here is what a kernel's memory safety rests on.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "linear.hpp"
#include "repack.hpp"

namespace nb = nanobind;

namespace {

template <typename T>
using Column = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Input = nb::ndarray<nb::ro, nb::ndim<2>, nb::device::cpu>;
using Output = nb::ndarray<nb::ndim<2>, nb::device::cpu>;

retrim::Type type_of(nb::dlpack::dtype type) {
  using Code = nb::dlpack::dtype_code;
  const auto code = Code(type.code);
  if (type.lanes == 1 && type.bits == 32 && code == Code::Float) return retrim::Type::f32;
  if (type.lanes == 1 && type.bits == 16 && (code == Code::Bfloat || code == Code::UInt))
    return retrim::Type::bf16;
  if (type.lanes == 1 && type.bits == 8 && code == Code::UInt) return retrim::Type::u8;
  throw std::invalid_argument("x and y must be float32, bfloat16 or uint8");
}

template <class Array>
bool has_plain_rows(const Array& a) {
  return a.shape(1) == 1 || a.stride(1) == 1;
}

// A packed layer; it keeps the arrays alive that it points into.
class Matrix {
 public:
  Matrix(int precision, int64_t group, Column<int32_t> starts, Column<int32_t> columns,
         std::optional<Column<int32_t>> rows, std::optional<Column<float>> scales, Column<uint8_t> values,
         Column<float> bias, Column<int32_t> idle, Column<float> idle_values, int64_t outputs, int64_t inputs, int64_t height, int64_t packed_rows,
         int activation, float input_scale, float output_scale)
      : starts_(starts), columns_(columns), rows_(rows), scales_(scales), values_(values), bias_(bias),
        idle_(idle), idle_values_(idle_values) {
    const auto kind = static_cast<retrim::Precision>(precision);
    const int64_t width = retrim::width_of(kind);
    bool fits = precision >= 0 && precision <= 2 && height > 0 && height % retrim::kPanel == 0 &&
                packed_rows % retrim::kPanel == 0 &&
                starts.shape(0) == size_t((packed_rows + height - 1) / height + 1) &&
                columns.shape(0) == size_t(starts.data()[starts.shape(0) - 1]) &&
                (!rows || rows->shape(0) == size_t(packed_rows)) &&
                (precision == 2) == scales.has_value() &&
                idle.shape(0) == idle_values.shape(0) && (!scales || scales->shape(0) == size_t(packed_rows)) && bias.shape(0) == size_t(packed_rows);
    int64_t lanes = 0;
    for (size_t b = 0; fits && b + 1 < starts.shape(0); b++) {
      const int64_t high = std::min(height, packed_rows - int64_t(b) * height);
      lanes += (starts.data()[b + 1] - starts.data()[b] + width - 1) / width * high;
    }
    fits = fits && values.shape(0) == size_t(lanes) * 4 && reinterpret_cast<uintptr_t>(values.data()) % 4 == 0;
    if (!fits) throw std::invalid_argument("the sections of a pack must fit together");
    retrim::Linear w{};
    w.precision = kind;
    w.group = group;
    w.starts = starts.data();
    w.columns = columns.data();
    w.rows = rows ? rows->data() : nullptr;
    w.scales = scales ? scales->data() : nullptr;
    w.values = reinterpret_cast<const uint32_t*>(values.data());
    w.bias = bias.data();
    w.idle = idle.data();
    w.idle_values = idle_values.data();
    w.idle_count = int64_t(idle.shape(0));
    w.outputs = outputs;
    w.inputs = inputs;
    w.height = height;
    w.packed_rows = packed_rows;
    w.activation = static_cast<retrim::Activation>(activation);
    w.input_scale = input_scale;
    w.output_scale = output_scale;
    prepared_.emplace(w);
  }

  // A pack of row groups.
  Matrix(int precision, int64_t list_rows, Column<int32_t> ends, std::optional<Column<uint16_t>> short_columns,
         std::optional<Column<int32_t>> columns, Column<uint8_t> values, Column<float> bias, int64_t segments,
         int64_t outputs, int64_t inputs, int64_t packed_rows, int activation)
      : values_(values), bias_(bias), ends_(ends), short_columns_(short_columns) {
    if (columns) columns_ = *columns;
    bool fits = (precision == 0 || precision == 1) &&
                (list_rows == 1 || list_rows == 2 || list_rows == 4 || list_rows == 8) && segments > 0 &&
                packed_rows > 0 && packed_rows % retrim::kPanel == 0 && outputs <= packed_rows &&
                ends.shape(0) == size_t(packed_rows / list_rows * segments) &&
                bias.shape(0) == size_t(packed_rows) && short_columns.has_value() != columns.has_value() &&
                reinterpret_cast<uintptr_t>(values.data()) % 4 == 0;
    for (size_t i = 0; fits && i < ends.shape(0); i++) fits = ends.data()[i] >= (i ? ends.data()[i - 1] : 0);
    if (fits) {
      const size_t lanes = size_t(ends.data()[ends.shape(0) - 1]);
      const size_t places = short_columns ? short_columns->shape(0) : columns->shape(0);
      fits = places == lanes * size_t(retrim::width_of(static_cast<retrim::Precision>(precision))) &&
             values.shape(0) == lanes * size_t(list_rows) * 4;
    }
    if (!fits) throw std::invalid_argument("the sections of a pack must fit together");
    retrim::Linear w{};
    w.precision = static_cast<retrim::Precision>(precision);
    w.group = 1;
    w.list_rows = list_rows;
    w.ends = ends.data();
    w.segments = w.level = segments;
    w.short_columns = short_columns ? short_columns->data() : nullptr;
    w.columns = columns ? columns->data() : nullptr;
    w.values = reinterpret_cast<const uint32_t*>(values.data());
    w.bias = bias.data();
    w.outputs = outputs;
    w.inputs = inputs;
    w.packed_rows = packed_rows;
    w.activation = static_cast<retrim::Activation>(activation);
    prepared_.emplace(w);
  }

  void apply(const Input& x, const Output& y, const std::optional<Input>& residual, int isa, int threads,
             int variant, int64_t level) const {
    int count = 0;
    const retrim::Isa* all = retrim::isas(&count);
    if (isa < 0 || isa >= count || !all[isa].available())
      throw std::invalid_argument("the instruction set must be one that this processor has");
    retrim::Linear w = prepared_->layer();  // a copy: calls choose their variant
    w.variant = static_cast<retrim::Variant>(variant);
    if (level < 0 || level > w.segments) throw std::invalid_argument("the level must be one that the pack holds");
    if (level > 0) w.level = level;
    retrim::Call call{};
    call.x_type = type_of(x.dtype());
    call.y_type = type_of(y.dtype());
    const bool fits =
        x.shape(1) == size_t(w.inputs) && y.shape(1) == size_t(w.outputs) && x.shape(0) == y.shape(0) &&
        has_plain_rows(x) && has_plain_rows(y) && retrim::takes(w.precision, call.x_type, call.y_type) &&
        (call.x_type != retrim::Type::u8 || w.input_scale > 0) &&
        (call.y_type != retrim::Type::u8 || w.output_scale > 0);
    if (!fits) throw std::invalid_argument("x and y must fit the layer, with unit stride along features");
    if (residual) {
      if (call.y_type == retrim::Type::u8 || residual->shape(0) != y.shape(0) ||
          residual->shape(1) != y.shape(1) || !has_plain_rows(*residual) ||
          type_of(residual->dtype()) != call.y_type)
        throw std::invalid_argument("a residual must be of y's type and shape");
      call.residual = residual->data();
      call.residual_stride = residual->stride(0);
    }
    call.x = x.data();
    call.x_stride = x.stride(0);
    call.y = y.data();
    call.y_stride = y.stride(0);
    call.tokens = int64_t(x.shape(0));
    nb::gil_scoped_release release;
    retrim::linear(all[isa], w, call, threads);
  }

 private:
  Column<int32_t> starts_, columns_;
  std::optional<Column<int32_t>> rows_;
  std::optional<Column<float>> scales_;
  Column<uint8_t> values_;
  Column<float> bias_;
  Column<int32_t> idle_;
  Column<float> idle_values_;
  Column<int32_t> ends_;
  std::optional<Column<uint16_t>> short_columns_;
  std::optional<retrim::Prepared> prepared_;
};

template <typename T>
using Room = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <typename T>
bool rises(const Column<T>& ends) {
  T before = 0;
  for (size_t i = 0; i < ends.shape(0); before = ends.data()[i++])
    if (ends.data()[i] < before) return false;
  return true;
}

// A level's sections out of all that any level keeps.
void repack(int64_t rows, bool halves, Column<int64_t> starts, std::optional<Column<uint16_t>> short_columns,
            std::optional<Column<int32_t>> columns, Column<uint8_t> values, Column<uint64_t> bits,
            Column<int32_t> ends, Room<uint8_t> to_columns, Room<uint8_t> to_values, int threads) {
  bool fits = (rows == 1 || rows == 2 || rows == 4 || rows == 8) && starts.shape(0) > 1 &&
              ends.shape(0) + 1 == starts.shape(0) && short_columns.has_value() != columns.has_value() &&
              starts.data()[0] == 0 && rises(starts) && rises(ends) && threads > 0;
  if (fits) {
    const size_t entries = size_t(starts.data()[starts.shape(0) - 1]);
    const size_t lanes = size_t(ends.data()[ends.shape(0) - 1]), place = short_columns ? 2 : 4;
    size_t words = 0;
    for (size_t i = 0; i + 1 < starts.shape(0); i++)
      words += size_t(starts.data()[i + 1] - starts.data()[i] + 63) / 64;
    fits = entries == (short_columns ? short_columns->shape(0) : columns->shape(0)) &&
           values.shape(0) == entries * size_t(rows) * (halves ? 2 : 4) && bits.shape(0) == words &&
           to_columns.shape(0) == lanes * (halves ? 2 : 1) * place &&
           to_values.shape(0) == lanes * size_t(rows) * 4 &&
           reinterpret_cast<uintptr_t>(to_columns.data()) % place == 0;
  }
  if (!fits) throw std::invalid_argument("the sections of a pack must fit together");
  const retrim::Stock stock{int64_t(ends.shape(0)), rows, halves, starts.data(),
                            short_columns ? short_columns->data() : nullptr, columns ? columns->data() : nullptr,
                            values.data()};
  const retrim::Share share{bits.data(), ends.data()};
  bool done = false;
  {
    nb::gil_scoped_release release;
    done = retrim::repack(stock, share, to_columns.data(), to_values.data(), threads);
  }
  if (!done) throw std::invalid_argument("a level's bits must make the lanes that its ends count");
}

}  // namespace

NB_MODULE(_core, m) {
  nb::class_<Matrix>(m, "Matrix")
      .def(nb::init<int, int64_t, Column<int32_t>, Column<int32_t>, std::optional<Column<int32_t>>,
                    std::optional<Column<float>>, Column<uint8_t>, Column<float>, Column<int32_t>,
                    Column<float>, int64_t, int64_t, int64_t, int64_t, int, float, float>(),
           nb::arg("precision"), nb::arg("group"), nb::arg("starts"), nb::arg("columns"),
           nb::arg("rows").none(), nb::arg("scales").none(), nb::arg("values"), nb::arg("bias"),
           nb::arg("idle"), nb::arg("idle_values"),
           nb::arg("outputs"), nb::arg("inputs"), nb::arg("height"), nb::arg("packed_rows"),
           nb::arg("activation"), nb::arg("input_scale"), nb::arg("output_scale"))
      .def(nb::init<int, int64_t, Column<int32_t>, std::optional<Column<uint16_t>>, std::optional<Column<int32_t>>,
                    Column<uint8_t>, Column<float>, int64_t, int64_t, int64_t, int64_t, int>(),
           nb::arg("precision"), nb::arg("list_rows"), nb::arg("ends"), nb::arg("short_columns").none(),
           nb::arg("columns").none(), nb::arg("values"), nb::arg("bias"), nb::arg("segments"), nb::arg("outputs"),
           nb::arg("inputs"), nb::arg("packed_rows"), nb::arg("activation"))
      .def("apply", &Matrix::apply, nb::arg("x").noconvert(), nb::arg("y").noconvert(),
           nb::arg("residual").noconvert().none(), nb::arg("isa"), nb::arg("threads"),
           nb::arg("variant") = 0, nb::arg("level") = 0);
  m.def("repack", &repack, nb::arg("rows"), nb::arg("halves"), nb::arg("starts"), nb::arg("short_columns").none(),
        nb::arg("columns").none(), nb::arg("values"), nb::arg("bits"), nb::arg("ends"),
        nb::arg("to_columns").noconvert(), nb::arg("to_values").noconvert(), nb::arg("threads"));
  m.def("isas", [] {
    int count = 0;
    const retrim::Isa* all = retrim::isas(&count);
    std::vector<std::pair<std::string, bool>> names;
    for (int i = 0; i < count; i++) names.emplace_back(all[i].name, all[i].available());
    return names;
  });
}
