// Restores a picture: restore PLAN IN.png OUT.png
//
// The plan's manifest lies beside it. The picture is read and written as 8-bit RGB, which a plan exported with
// --io u8-nhwc takes as it is; for one of f32-nchw it is converted here.
#include <png.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <serpent/engine.hpp>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace {

struct Picture {
  serpent::PictureSize size;
  std::vector<uint8_t> levels;  // (H, W, 3)
};

[[noreturn]] void fail(const std::string& path, const png_image& image) {
  throw std::runtime_error(path + ": " + image.message);
}

Picture read_png(const std::string& path) {
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  if (!png_image_begin_read_from_file(&image, path.c_str())) {
    fail(path, image);
  }
  image.format = PNG_FORMAT_RGB;
  Picture picture = {{.height = image.height, .width = image.width}, std::vector<uint8_t>(PNG_IMAGE_SIZE(image))};
  const png_color black = {0, 0, 0};  // behind what is transparent
  if (!png_image_finish_read(&image, &black, picture.levels.data(), 0, nullptr)) {
    fail(path, image);
  }
  return picture;
}

void restore(serpent::Engine& engine, const Picture& picture, Picture& restored) {
  if (engine.info().io == SERPENT_ENGINE_U8_NHWC) {
    engine.run(picture.levels.data(), restored.levels.data(), picture.size);
    return;
  }
  std::vector<float> planes(picture.levels.size());  // (3, H, W), in [0, 1]
  std::vector<float> result(planes.size());
  const auto in_planes = [pixels = planes.size() / 3](std::size_t i) { return i % 3 * pixels + i / 3; };
  for (std::size_t i = 0; i < planes.size(); ++i) {
    planes[in_planes(i)] = static_cast<float>(picture.levels[i]) / 255.0F;
  }
  engine.run(planes.data(), result.data(), picture.size);
  for (std::size_t i = 0; i < result.size(); ++i) {
    const float value = result[in_planes(i)];
    if (!std::isfinite(value)) {
      throw std::runtime_error("the network gave values that are not finite; export it with --precision fp32");
    }
    restored.levels[i] = static_cast<uint8_t>(std::nearbyint(std::clamp(value, 0.0F, 1.0F) * 255.0F));
  }
}

void write_png(const std::string& path, const Picture& picture) {
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(picture.size.width);
  image.height = static_cast<png_uint_32>(picture.size.height);
  image.format = PNG_FORMAT_RGB;
  const std::string aside = path + ".part";  // the file appears whole or not at all
  if (!png_image_write_to_file(&image, aside.c_str(), 0, picture.levels.data(), 0, nullptr)) {
    std::remove(aside.c_str());
    fail(path, image);
  }
  std::error_code error;
  std::filesystem::rename(aside, path, error);
  if (error) {
    std::remove(aside.c_str());
    throw std::runtime_error(path + ": " + error.message());
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) {
    std::fprintf(stderr, "usage: restore PLAN IN.png OUT.png\n");
    return 2;
  }
  try {
    serpent::Engine engine(arguments[1]);
    const Picture picture = read_png(arguments[2]);
    Picture restored = picture;
    restore(engine, picture, restored);
    write_png(arguments[3], restored);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
  return 0;
}
