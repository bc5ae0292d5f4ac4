// What bad input gets: each refusal names what is wrong, and nothing is left behind.
#include <sys/stat.h>

#include <fstream>

#include "standin.h"
#include "support.h"

using serpent::Engine;
using serpent::Memory;
using serpent::PictureSize;
using test::expect_error;
using test::Folder;
using test::kPlan;

namespace {

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const std::size_t at = text.find(what);
  CHECK(at != std::string::npos);
  return at == std::string::npos ? text : text.replace(at, what.size(), by);
}

void open_plan(const std::filesystem::path& plan) { const Engine engine(plan); }

void test_manifests(const Folder& folder) {
  const std::filesystem::path plan = test::write_plan(folder);
  const std::string good = test::manifest_text("net.plan", kPlan);
  struct Case {
    std::string what;
    std::string by;
    std::string named;
  };
  const Case cases[] = {
      {"{", "", "no JSON"},
      {"serpent-manifest", "another", "is no serpent-manifest"},
      {"\"format_version\": 1", "\"format_version\": 2", "manifest version 2, this version reads 1"},
      {"\"format_version\": 1", "\"format_version\": \"1\"", "format_version is no integer"},
      {"\"task\"", "\"tusk\"", "the field \"task\" is missing"},
      {"[16, 32, 64]", "[16, 64, 32]", "profile.height is not 1 <= min <= opt <= max"},
      {"[16, 32, 64]", "[16, 32]", "profile.height has 2 sizes, not 3"},
      {"[16, 32, 64]", "[16, 32, null]", "height is no integer"},
      {"[16, 32, 64]", "[16, 32, 1e3]", "height is no integer"},
      {"[16, 32, 64]", "[16, 32, 99999999999999999999]", "height is no integer"},
      {"[16, 32, 64]", "[16, 32, 4611686018427387904]", "more than 2^40 pixels"},
      {"\"multiple\": 8", "\"multiple\": 0", "profile.multiple is 0"},
      {"\"io\": \"f32-nchw\"", "\"io\": \"u8-nchw\"", "io is \"u8-nchw\", none of f32-nchw, f16-nchw and u8-nhwc"},
      {"\"io\": \"f32-nchw\"", "\"io\": 8", "io is no string"},
      {"\"multiple\": 8", "\"multiple\": 7", "no multiple of 7"},
      {"net.plan", "other.plan", "it lists other.plan, not net.plan"},
      {"\"flavour\": \"rtx\"", "\"flavour\": \"abc\"", "neither rtx nor trt"},
      {"\"sha256\": \"", "\"sha256\": \"0", "the file was changed or damaged"},
  };
  for (const Case& one : cases) {
    test::write_text(folder / "net.json", replaced(good, one.what, one.by));
    expect_error(SERPENT_ENGINE_MODEL_FILE, {"net.json", one.named}, [&] { open_plan(plan); });
  }
  test::write_text(folder / "net.json", std::string(100000, '['));
  expect_error(SERPENT_ENGINE_MODEL_FILE, {"nested too deeply"}, [&] { open_plan(plan); });
  std::filesystem::remove(folder / "net.json");
  expect_error(SERPENT_ENGINE_MODEL_FILE, {"the manifest", "net.json does not exist", "serpent-export"},
               [&] { open_plan(plan); });
}

void test_plans(const Folder& folder) {
  const std::filesystem::path plan = test::write_plan(folder);
  for (const std::string& damaged : {kPlan.substr(0, 30), replaced(kPlan, "FLOAT", "FLOAU"), std::string()}) {
    test::write_text(plan, damaged);
    expect_error(SERPENT_ENGINE_MODEL_FILE, {"net.plan has sha256", "changed or damaged"}, [&] { open_plan(plan); });
  }
  std::filesystem::remove(plan);
  expect_error(SERPENT_ENGINE_MODEL_FILE, {"the plan", "net.plan does not exist", "restore the files"},
               [&] { open_plan(plan); });
  expect_error(SERPENT_ENGINE_MODEL_FILE, {"the plan", "mistyped.plan does not exist; write one with serpent-export"},
               [&] { open_plan(folder / "mistyped.plan"); });
  CHECK(mkfifo(plan.c_str(), 0600) == 0);  // opening it would wait for a writer
  expect_error(SERPENT_ENGINE_MODEL_FILE, {"the plan", "net.plan cannot be read: it is no regular file"},
               [&] { open_plan(plan); });
  std::filesystem::remove(plan);
  std::filesystem::create_directory(plan);
  expect_error(SERPENT_ENGINE_MODEL_FILE, {"the plan", "net.plan cannot be read"}, [&] { open_plan(plan); });
  std::filesystem::remove(plan);

  // Digests fit, and the plan is not what its manifest says.
  const auto foreign = [&](const std::string& text, serpent_engine_status status, const std::string& named) {
    test::write_plan(folder, text);
    expect_error(status, {named}, [&] { open_plan(plan); });
  };
  foreign("ftrt and other bytes", SERPENT_ENGINE_TENSORRT, "cannot load the plan");
  foreign("", SERPENT_ENGINE_TENSORRT, "cannot load the plan");
  foreign(replaced(kPlan, "image FLOAT", "image HALF"), SERPENT_ENGINE_MODEL_FILE,
          "has the tensors image HALF, restored FLOAT; its manifest says f32-nchw: image and restored, both FLOAT "
          "(B, 3, H, W)");
  foreign(replaced(kPlan, "image", "picture"), SERPENT_ENGINE_MODEL_FILE, "picture FLOAT");
  foreign(kPlan + "output more FLOAT\n", SERPENT_ENGINE_MODEL_FILE, "more FLOAT");
  foreign("serpent-standin 1\n", SERPENT_ENGINE_MODEL_FILE, "has the tensors ");
  foreign(replaced(kPlan, "64 48", "64 56"), SERPENT_ENGINE_MODEL_FILE, "accepts 16 to 56 on axis 3");
  foreign(replaced(kPlan, "1 3 16", "1 4 16"), SERPENT_ENGINE_MODEL_FILE, "accepts 4 to 3 on axis 1");
}

void test_flavours_and_devices(const Folder& folder) {
  const std::filesystem::path plan = test::write_plan(folder);
  for (const char* other : {"rtx 1.7.2.5", "rtx 1.7.1.117", "trt 10.16.0.72", "trt 1.7.1.116"}) {
    standin::set_version(other);
    expect_error(SERPENT_ENGINE_UNSUPPORTED, {"built with TensorRT-RTX 1.7.1.116", "loaded is TensorRT"},
                 [&] { open_plan(plan); });
  }
  standin::set_version("rtx 1.7.1.116");
  expect_error(SERPENT_ENGINE_UNSUPPORTED, {"no CUDA device 3"}, [&] { const Engine engine(plan, {.device = 3}); });
  const std::string good = test::manifest_text("net.plan", kPlan);
  test::write_text(folder / "net.json", replaced(good, "\"sm86\", \"sm89\"", "\"sm75\", \"sm120\""));
  expect_error(SERPENT_ENGINE_UNSUPPORTED, {"built for sm75, sm120", "stand-in GPU (sm89)", "--targets sm89"},
               [&] { open_plan(plan); });
  test::write_text(folder / "net.json", replaced(good, "\"version\": \"1\"", "\"version\": \"2\""));
  expect_error(SERPENT_ENGINE_UNSUPPORTED, {"does not have serpent::SelectiveScan2D version 2"},
               [&] { open_plan(plan); });
  test::write_text(folder / "net.json", replaced(good, "\"schema\": 1", "\"schema\": 1, \"embedded\": true"));
  expect_error(SERPENT_ENGINE_UNSUPPORTED, {"carries native code", "allow_native_code"}, [&] { open_plan(plan); });
  standin::take_log();
  {
    const Engine engine(plan, {.allow_native_code = true});
  }
  CHECK(standin::take_log()[1] == "create_engine with native code");  // and no plugin was loaded
}

// The first 20 bytes of an ELF file: magic, class, ..., type, machine.
std::string elf_header(char bits, char type, unsigned char machine) {
  std::string header(20, '\0');
  header.replace(0, 4,
                 "\x7f"
                 "ELF");
  header[4] = bits;
  header[16] = type;
  header[18] = static_cast<char>(machine);
  return header;
}

// The same of a PE file, from its signature on: machine, ..., flags, magic number of what follows.
std::string pe_header(const std::string& machine, unsigned char flags, char bits) {
  std::string header(26, '\0');
  header.replace(0, 2, "PE");
  header.replace(4, 2, machine);
  header[23] = static_cast<char>(flags);
  header[24] = 0x0B;
  header[25] = bits;
  return header;
}

void test_plans_with_native_code(const Folder& folder) {
  constexpr char k32 = 1;
  constexpr char k64 = 2;
  constexpr char kRelocatable = 1;
  constexpr char kExecutable = 2;
  constexpr char kShared = 3;
  constexpr unsigned char kX86_64 = 62;
  constexpr unsigned char kAarch64 = 183;
  constexpr unsigned char kCuda = 190;
  // The manifest is silent. What lies after the plan's last line the stand-in does not understand.
  const auto refusal = [&](const std::string& embedded, serpent_engine_status status, const std::string& named) {
    const std::filesystem::path plan = test::write_plan(folder, kPlan + embedded + "\n");
    expect_error(status, {named}, [&] { open_plan(plan); });
  };
  const std::string cubin = elf_header(k64, kExecutable, kCuda);
  for (const unsigned char machine : {kX86_64, kAarch64}) {
    const std::string library = elf_header(k64, kShared, machine);
    for (const std::string& embedded : {library, "odd" + library, cubin + library, "\x7f" + library}) {
      refusal(embedded, SERPENT_ENGINE_UNSUPPORTED, "net.plan carries native code that would run in this process");
    }
    refusal(library.substr(0, 18), SERPENT_ENGINE_TENSORRT, "does not understand");
  }
  constexpr unsigned char kDll = 0x20;
  constexpr unsigned char kProgram = 0x02;
  const std::string library = pe_header("\x64\x86", kDll, k64);
  for (const std::string& embedded : {library, pe_header("\x64\xAA", kDll | kProgram, k64), "MZ" + library}) {
    refusal(embedded, SERPENT_ENGINE_UNSUPPORTED, "net.plan carries native code that would run in this process");
  }
  for (const std::string& harmless :
       {pe_header("\x64\x86", kProgram, k64), pe_header("\x64\x86", kDll, k32), pe_header("\x4C\x01", kDll, k64),
        library.substr(0, 24), cubin, elf_header(k64, kRelocatable, kCuda), elf_header(k64, kShared, kCuda),
        elf_header(k32, kShared, kX86_64), elf_header(k64, kRelocatable, kX86_64), std::string("ELF")}) {
    refusal(harmless, SERPENT_ENGINE_TENSORRT, "does not understand");
  }
  // With the caller's permission it reaches TensorRT, told to run the code.
  const std::filesystem::path plan = test::write_plan(folder, kPlan + elf_header(k64, kShared, kX86_64) + "\n");
  standin::take_log();
  expect_error(SERPENT_ENGINE_TENSORRT, {"does not understand"},
               [&] { const Engine engine(plan, {.allow_native_code = true}); });
  for (const std::string& line : standin::take_log()) {
    CHECK(!line.starts_with("load_plugin"));
  }
}

// A plan whose result is larger than its image would write beyond the buffers, which are sized by the image.
void test_a_larger_result(const Folder& folder) {
  Engine engine(test::write_plan(folder, replaced(kPlan, "restored FLOAT", "restored FLOAT 2")));
  std::vector<float> image(768);
  std::vector<float> restored(768);
  for (int turn = 0; turn < 2; ++turn) {
    expect_error(SERPENT_ENGINE_MODEL_FILE,
                 {"net.plan makes restored of shape (1, 3, 32, 16) from image of shape (1, 3, 16, 16); expected equal "
                  "shapes; run serpent-export again"},
                 [&] { engine.run(image.data(), restored.data(), {1, 16, 16}); });
  }
}

void test_options(const Folder& folder) {
  const std::filesystem::path plan = test::write_plan(folder);
  expect_error(SERPENT_ENGINE_INVALID_ARGUMENT, {"options.device is -1"},
               [&] { const Engine engine(plan, {.device = -1}); });
  expect_error(SERPENT_ENGINE_INVALID_ARGUMENT, {"options.contexts is 0; expected 1 to"},
               [&] { const Engine engine(plan, {.contexts = 0}); });
  expect_error(SERPENT_ENGINE_INVALID_ARGUMENT, {"options.when_busy is 7"},
               [&] { const Engine engine(plan, {.when_busy = static_cast<serpent::WhenBusy>(7)}); });
}

void test_pictures(const Folder& folder) {
  Engine engine(test::write_plan(folder));
  std::vector<float> image(3 * 64 * 64 * 4);
  std::vector<float> restored(image.size());
  const std::string profile = "net.plan: batch 1:1:2, height 16:32:64, width 16:32:48 (min:opt:max); cut larger";
  for (const PictureSize& size :
       {PictureSize{1, 65, 16}, PictureSize{1, 16, 49}, PictureSize{3, 16, 16}, PictureSize{0, 16, 16},
        PictureSize{1, 0, 16}, PictureSize{1, 16, -5}, PictureSize{INT64_MAX, INT64_MAX, INT64_MAX}}) {
    expect_error(SERPENT_ENGINE_INVALID_ARGUMENT, {profile}, [&] { engine.run(image.data(), restored.data(), size); });
  }
  const PictureSize size = {1, 16, 16};
  expect_error(SERPENT_ENGINE_INVALID_ARGUMENT, {"image.data is NULL"},
               [&] { engine.run(nullptr, restored.data(), size); });
  expect_error(SERPENT_ENGINE_INVALID_ARGUMENT, {"image and restored overlap"},
               [&] { engine.run(image.data(), image.data() + 767, size); });
  expect_error(SERPENT_ENGINE_INVALID_ARGUMENT, {"image is said to be in device memory", "of host memory"},
               [&] { engine.run(image.data(), restored.data(), size, Memory::device); });
  auto* on_device = static_cast<float*>(standin::allocate(size.elements() * sizeof(float)));
  expect_error(SERPENT_ENGINE_INVALID_ARGUMENT, {"restored is said to be in host memory", "of device memory"},
               [&] { engine.run(image.data(), on_device, size); });
  standin::release(on_device);
  expect_error(SERPENT_ENGINE_INVALID_ARGUMENT, {"image.memory is 9"},
               [&] { engine.run(image.data(), restored.data(), size, static_cast<Memory>(9)); });
}

void test_the_c_interface(const Folder& folder) {
  const std::string plan = test::write_plan(folder).string();
  serpent_engine_error error = {};
  serpent_engine* engine = nullptr;
  CHECK(serpent_engine_open(nullptr, nullptr, &engine, &error) == SERPENT_ENGINE_INVALID_ARGUMENT);
  CHECK(std::string(error.message) == "plan is NULL");
  CHECK(serpent_engine_open(plan.c_str(), nullptr, nullptr, &error) == SERPENT_ENGINE_INVALID_ARGUMENT);
  CHECK(std::string(error.message) == "engine is NULL");
  CHECK(serpent_engine_open("missing.plan", nullptr, &engine, nullptr) == SERPENT_ENGINE_MODEL_FILE);
  CHECK(engine == nullptr);
  serpent_engine_close(nullptr);
  serpent_engine_default_options(nullptr);
  CHECK(serpent_engine_open(plan.c_str(), nullptr, &engine, &error) == SERPENT_ENGINE_OK);
  CHECK(serpent_engine_describe(engine, nullptr, &error) == SERPENT_ENGINE_INVALID_ARGUMENT);
  CHECK(serpent_engine_describe(nullptr, nullptr, nullptr) == SERPENT_ENGINE_INVALID_ARGUMENT);
  std::vector<float> image(768);
  std::vector<float> restored(768);
  serpent_engine_pictures source = {image.data(), 1, 16, 16, SERPENT_ENGINE_U8_NHWC, SERPENT_ENGINE_HOST};
  serpent_engine_pictures target = {restored.data(), 1, 16, 16, SERPENT_ENGINE_F32_NCHW, SERPENT_ENGINE_HOST};
  CHECK(serpent_engine_run(engine, &source, &target, nullptr, &error) == SERPENT_ENGINE_INVALID_ARGUMENT);
  CHECK(std::string(error.message) ==
        "image.io is 2 (u8-nhwc); expected 0 (f32-nchw), which " + plan + " was exported for (--io)");
  source.io = SERPENT_ENGINE_F32_NCHW;
  target.height = 15;
  CHECK(serpent_engine_run(engine, &source, &target, nullptr, &error) == SERPENT_ENGINE_INVALID_ARGUMENT);
  CHECK(std::string(error.message) ==
        "image has shape (1, 3, 16, 16) and restored (1, 3, 15, 16); expected equal shapes");
  CHECK(serpent_engine_run(engine, &source, nullptr, nullptr, nullptr) == SERPENT_ENGINE_INVALID_ARGUMENT);
  serpent_engine_close(engine);
}

}  // namespace

int main(int, char** arguments) {
  return test::run_all(arguments[1], [] {
    const Folder folder;
    test_manifests(folder);
    test_plans(folder);
    test_flavours_and_devices(folder);
    test_plans_with_native_code(folder);
    test_a_larger_result(folder);
    test_options(folder);
    test_pictures(folder);
    test_the_c_interface(folder);
    CHECK(standin::allocations() == 0);
  });
}
